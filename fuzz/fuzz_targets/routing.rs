//! Generated routings and values: every engine against the definition, stage by stage.
#![no_main]

use binned_experts::fuzz::{RoutingCase, routing};

libfuzzer_sys::fuzz_target!(|case: RoutingCase| {
    routing(&case);
});
