//! What the engines need that a machine may lack.

use binned_experts::engines::built_in;

use crate::trials::Need;

/// For the kernels on the emulator.
pub(crate) fn compiler() -> Need {
    Need::new("a C++ compiler", Some("CI"), || missing("emulator-portable"))
}

/// For the kernels on a GPU.
pub(crate) fn gpu() -> Need {
    Need::new("a GPU", Some("BINNED_EXPERTS_REQUIRE_GPU"), || missing("cuda-portable"))
}

/// Why an engine is not available.
fn missing(engine: &str) -> Option<String> {
    let engine = built_in(engine).expect("a built-in engine");
    (engine.open)().err().map(|error| error.to_string())
}
