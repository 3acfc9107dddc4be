//! Runs that lose nothing and blame the right side: what programs, files, disks and signals may do to the command.
//!
//! The programs are `examples/rude.rs`. With `SOAK_CASES` the soak takes so many cases; otherwise 200.

mod compare;
mod interrupts;
mod machine;
mod merged;
mod programs;
mod reports;
mod saving;
mod side_by_side;
mod soak;
mod support;
