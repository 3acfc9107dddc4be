//! Generated routings and values: the reference against the definition, stage by stage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| binned_experts::fuzz::routing(bytes));
