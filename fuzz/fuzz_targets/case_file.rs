//! Hostile safetensors and hostile text.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    binned_experts::fuzz::case_file(bytes);
});
