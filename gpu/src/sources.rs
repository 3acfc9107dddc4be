//! The kernels' source text, for those who compile it: NVRTC, and a C++ compiler at run time.

/// A source file: its name and its text.
pub type SourceFile = (&'static str, &'static str);

/// The files of `kernels/`, each after those it includes.
pub const KERNELS: [SourceFile; 15] = [
    ("common.cuh", include_str!("../kernels/common.cuh")),
    ("ptx.cuh", include_str!("../kernels/ptx.cuh")),
    ("swiglu.cuh", include_str!("../kernels/swiglu.cuh")),
    ("tile.cuh", include_str!("../kernels/tile.cuh")),
    ("exact.cuh", include_str!("../kernels/exact.cuh")),
    ("split.cuh", include_str!("../kernels/split.cuh")),
    ("queue.cuh", include_str!("../kernels/queue.cuh")),
    ("finish.cuh", include_str!("../kernels/finish.cuh")),
    ("route.cu", include_str!("../kernels/route.cu")),
    ("gate_up.cu", include_str!("../kernels/gate_up.cu")),
    ("down.cu", include_str!("../kernels/down.cu")),
    ("pack.cu", include_str!("../kernels/pack.cu")),
    ("split_tokens.cu", include_str!("../kernels/split_tokens.cu")),
    ("experts.cu", include_str!("../kernels/experts.cu")),
    ("combine.cu", include_str!("../kernels/combine.cu")),
];

/// The files of `emulator/` that the kernels are built with for the CPU.
pub(crate) const EMULATOR: [SourceFile; 13] = [
    ("fiber.h", include_str!("../emulator/fiber.h")),
    ("scheduler.h", include_str!("../emulator/scheduler.h")),
    ("order.h", include_str!("../emulator/order.h")),
    ("async_machine.h", include_str!("../emulator/async_machine.h")),
    ("half.h", include_str!("../emulator/half.h")),
    ("simt.h", include_str!("../emulator/simt.h")),
    ("async.h", include_str!("../emulator/async.h")),
    ("fiber.cpp", include_str!("../emulator/fiber.cpp")),
    ("scheduler.cpp", include_str!("../emulator/scheduler.cpp")),
    ("order.cpp", include_str!("../emulator/order.cpp")),
    ("async_machine.cpp", include_str!("../emulator/async_machine.cpp")),
    ("multiply.cpp", include_str!("../emulator/multiply.cpp")),
    ("launch.cpp", include_str!("../emulator/launch.cpp")),
];

/// All kernels as one source: the files one after the other, without the includes of one another.
pub fn joined<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let is_joint = |line: &&str| line.starts_with("#include \"") || line.starts_with("#pragma once");
    let lines = texts
        .into_iter()
        .flat_map(|text| text.lines().filter(|line| !is_joint(line)));
    lines.collect::<Vec<_>>().join("\n")
}
