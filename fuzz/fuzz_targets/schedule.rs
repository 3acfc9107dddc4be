//! One problem, many interleavings of the kernels' threads: always the same bits.
#![no_main]

use binned_experts::fuzz::{ScheduleCase, schedule};

libfuzzer_sys::fuzz_target!(|case: ScheduleCase| {
    schedule(&case);
});
