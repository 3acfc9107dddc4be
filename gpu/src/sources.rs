//! The kernels' source text, for those who compile it: NVRTC, and a C++ compiler at run time.

use crate::{Arg, NamedArg};

/// A source file: its name and its text.
pub type SourceFile = (&'static str, &'static str);

/// The files of `kernels/`, each after those it includes.
pub const KERNELS: [SourceFile; 23] = [
    ("common.cuh", include_str!("../kernels/common.cuh")),
    ("ptx.cuh", include_str!("../kernels/ptx.cuh")),
    ("swiglu.cuh", include_str!("../kernels/swiglu.cuh")),
    ("tile.cuh", include_str!("../kernels/tile.cuh")),
    ("fallback.cuh", include_str!("../kernels/fallback.cuh")),
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
    ("ptx_bf16.cuh", include_str!("../kernels/ptx_bf16.cuh")),
    ("tiles_bf16.cuh", include_str!("../kernels/tiles_bf16.cuh")),
    ("rows_bf16.cuh", include_str!("../kernels/rows_bf16.cuh")),
    ("finish_bf16.cuh", include_str!("../kernels/finish_bf16.cuh")),
    ("pack_bf16.cu", include_str!("../kernels/pack_bf16.cu")),
    ("gather_bf16.cu", include_str!("../kernels/gather_bf16.cu")),
    ("experts_bf16.cu", include_str!("../kernels/experts_bf16.cu")),
    ("combine_bf16.cu", include_str!("../kernels/combine_bf16.cu")),
];

/// The files of `emulator/` that the kernels are built with for the CPU.
#[cfg(feature = "emulator")]
pub(crate) const EMULATOR: [SourceFile; 39] = [
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
    ("async_bf16.h", include_str!("../emulator/async_bf16.h")),
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
    ("table.h", include_str!("../emulator/table.h")),
    ("launch.cpp", include_str!("../emulator/launch.cpp")),
    ("kernels_route.cpp", include_str!("../emulator/kernels_route.cpp")),
    ("kernels_gate_up.cpp", include_str!("../emulator/kernels_gate_up.cpp")),
    ("kernels_down.cpp", include_str!("../emulator/kernels_down.cpp")),
    ("kernels_pack.cpp", include_str!("../emulator/kernels_pack.cpp")),
    (
        "kernels_split_tokens.cpp",
        include_str!("../emulator/kernels_split_tokens.cpp"),
    ),
    ("kernels_experts.cpp", include_str!("../emulator/kernels_experts.cpp")),
    ("kernels_combine.cpp", include_str!("../emulator/kernels_combine.cpp")),
    (
        "kernels_pack_bf16.cpp",
        include_str!("../emulator/kernels_pack_bf16.cpp"),
    ),
    (
        "kernels_gather_bf16.cpp",
        include_str!("../emulator/kernels_gather_bf16.cpp"),
    ),
    (
        "kernels_experts_bf16.cpp",
        include_str!("../emulator/kernels_experts_bf16.cpp"),
    ),
    (
        "kernels_combine_bf16.cpp",
        include_str!("../emulator/kernels_combine_bf16.cpp"),
    ),
];

/// A kernel's name and parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The kernel's name.
    pub kernel: &'static str,
    /// Whether only Hopper has the instructions that it is made of.
    pub needs_hopper: bool,
    /// Names and kinds of the parameters.
    pub parameters: Vec<(&'static str, Kind)>,
}

/// The kind of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An array, or null.
    Buffer,
    /// A 64-bit integer.
    I64,
    /// A float.
    F32,
}

/// The heads of all kernels, as they stand in the sources.
pub fn heads() -> Vec<Head> {
    let of_file = |&(_, text): &SourceFile| {
        text.split("\nKERNEL")
            .skip(1)
            .filter_map(move |kernel| head(text, kernel))
    };
    KERNELS.iter().flat_map(of_file).collect()
}

/// The head of a kernel that begins after `KERNEL`: `(threads)\nname(type parameter, ...) {`.
fn head(file: &str, text: &'static str) -> Option<Head> {
    let (kernel, rest) = text.split_once('\n')?.1.split_once('(')?;
    let (parameters, _) = rest.split_once(") {")?;
    let parameter = |text: &'static str| {
        let (kind, name) = text.trim().rsplit_once(' ')?;
        let kind = match kind {
            "int64" => Kind::I64,
            "float" => Kind::F32,
            _ if kind.starts_with("Global<") => Kind::Buffer,
            _ => return None,
        };
        Some((name, kind))
    };
    Some(Head {
        kernel,
        needs_hopper: file.contains("\n#ifdef HOPPER\n"),
        parameters: parameters.split(',').map(parameter).collect::<Option<_>>()?,
    })
}

impl Head {
    /// Whether the arguments have the names and kinds of the parameters, in their order.
    ///
    /// # Errors
    /// What was expected, and what was found.
    pub fn check<B>(&self, args: &[NamedArg<'_, B>]) -> Result<(), String> {
        let (expected, found) = (self.parameters.len(), args.len());
        if expected != found {
            return Err(format!("expected {expected} arguments, found {found}"));
        }
        for (&(parameter, kind), &(name, arg)) in self.parameters.iter().zip(args) {
            if parameter != name {
                return Err(format!("expected the argument {parameter}, found {name}"));
            }
            if kind != Kind::of(arg) {
                return Err(format!("{name}: expected {kind}, found {}", Kind::of(arg)));
            }
        }
        Ok(())
    }
}

impl Kind {
    fn of<B>(arg: Arg<'_, B>) -> Kind {
        match arg {
            Arg::Buffer(..) | Arg::Null => Kind::Buffer,
            Arg::I64(_) => Kind::I64,
            Arg::F32(_) => Kind::F32,
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Buffer => "a buffer",
            Kind::I64 => "an i64",
            Kind::F32 => "an f32",
        })
    }
}

/// All kernels as one source: the files one after the other, without the includes of one another.
pub fn joined<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let is_joint = |line: &&str| line.starts_with("#include \"") || line.starts_with("#pragma once");
    let lines = texts
        .into_iter()
        .flat_map(|text| text.lines().filter(|line| !is_joint(line)));
    lines.collect::<Vec<_>>().join("\n")
}
