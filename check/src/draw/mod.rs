//! From a case to the problem that it describes: pure, bounded, the same on every machine.

mod against;
mod blocks;
mod build;
mod by_row;
mod cells;
mod distinct;
mod foreign;
mod numbers;
mod routing;
mod special;
mod tensors;
mod tie_order;
mod values;
mod weights;

pub use numbers::mix;
