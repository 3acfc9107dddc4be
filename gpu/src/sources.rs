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
#[cfg(feature = "emulator")]
pub(crate) const EMULATOR: [SourceFile; 26] = [
    ("random.h", include_str!("../emulator/random.h")),
    ("fiber.h", include_str!("../emulator/fiber.h")),
    ("threads.h", include_str!("../emulator/threads.h")),
    ("turns.h", include_str!("../emulator/turns.h")),
    ("order.h", include_str!("../emulator/order.h")),
    ("async_machine.h", include_str!("../emulator/async_machine.h")),
    ("multiply.h", include_str!("../emulator/multiply.h")),
    ("emulator.h", include_str!("../emulator/emulator.h")),
    ("collectives.h", include_str!("../emulator/collectives.h")),
    ("shared.h", include_str!("../emulator/shared.h")),
    ("report.h", include_str!("../emulator/report.h")),
    ("half.h", include_str!("../emulator/half.h")),
    ("simt.h", include_str!("../emulator/simt.h")),
    ("async.h", include_str!("../emulator/async.h")),
    ("emulator.cpp", include_str!("../emulator/emulator.cpp")),
    ("blocks.cpp", include_str!("../emulator/blocks.cpp")),
    ("switching.cpp", include_str!("../emulator/switching.cpp")),
    ("turns.cpp", include_str!("../emulator/turns.cpp")),
    ("fiber.cpp", include_str!("../emulator/fiber.cpp")),
    ("collectives.cpp", include_str!("../emulator/collectives.cpp")),
    ("shared.cpp", include_str!("../emulator/shared.cpp")),
    ("order.cpp", include_str!("../emulator/order.cpp")),
    ("async_machine.cpp", include_str!("../emulator/async_machine.cpp")),
    ("multiply.cpp", include_str!("../emulator/multiply.cpp")),
    ("report.cpp", include_str!("../emulator/report.cpp")),
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
