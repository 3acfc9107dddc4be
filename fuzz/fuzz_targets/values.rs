//! Special values and wide ranges, in every element type: every engine against the definition.
#![no_main]

use binned_experts::fuzz::{ValuesCase, values};

libfuzzer_sys::fuzz_target!(|case: ValuesCase| {
    values(&case);
});
