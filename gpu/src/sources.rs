//! The kernels' source text, for those who compile it: NVRTC, and a C++ compiler at run time.

/// A source file: its name and its text.
pub type SourceFile = (&'static str, &'static str);

/// The files of `kernels/`, each after those it includes.
pub const KERNELS: [SourceFile; 6] = [
    ("common.cuh", include_str!("../kernels/common.cuh")),
    ("tile.cuh", include_str!("../kernels/tile.cuh")),
    ("route.cu", include_str!("../kernels/route.cu")),
    ("gate_up.cu", include_str!("../kernels/gate_up.cu")),
    ("down.cu", include_str!("../kernels/down.cu")),
    ("combine.cu", include_str!("../kernels/combine.cu")),
];

/// The files of `host/` that the kernels are built with for the CPU.
pub(crate) const HOST: [SourceFile; 6] = [
    ("fiber.h", include_str!("../host/fiber.h")),
    ("scheduler.h", include_str!("../host/scheduler.h")),
    ("simt.h", include_str!("../host/simt.h")),
    ("fiber.cpp", include_str!("../host/fiber.cpp")),
    ("scheduler.cpp", include_str!("../host/scheduler.cpp")),
    ("launch.cpp", include_str!("../host/launch.cpp")),
];

/// All kernels as one source: the files one after the other, without the includes of one another.
pub fn joined<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let is_joint = |line: &&str| line.starts_with("#include \"") || line.starts_with("#pragma once");
    let lines = texts
        .into_iter()
        .flat_map(|text| text.lines().filter(|line| !is_joint(line)));
    lines.collect::<Vec<_>>().join("\n")
}
