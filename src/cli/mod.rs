//! Arguments, and what each command does.

mod check;
mod engines;
mod files;
mod serve;
#[cfg(feature = "emulator")]
mod zoo;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

#[cfg(feature = "emulator")]
use binned_experts::zoo::KernelPath;
use binned_experts_check::Precision;
use binned_experts_check::case::Profile;

/// A message for the person at the terminal.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// Tests mixture-of-experts kernels.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run engines against the oracle on generated cases.
    Check(Check),
    /// Run one file through one engine and write its output and stages.
    Run(Run),
    /// Write a case as safetensors.
    Case(Case),
    /// Run one case through all engines and report in full.
    Replay(Replay),
    /// Answer requests as a program for --command does, with an engine of this crate.
    Serve(Serve),
    /// List the engines.
    Engines,
    /// Plant known bugs in the kernels and see whether a check catches them.
    #[cfg(feature = "emulator")]
    Zoo(Zoo),
}

/// Which engines to use.
#[derive(Debug, Clone, Args)]
pub(crate) struct Engines {
    /// A built-in engine; may be given several times.
    #[arg(long, value_name = "NAME")]
    engine: Vec<String>,
    /// A program that speaks lines of JSON; see the README.
    #[arg(long, value_name = "CMD", requires = "precision")]
    command: Option<String>,
    /// The arithmetic that the program claims; it also decides the element type of its cases. Without a program, one that
    /// all engines must claim: a check then draws cases of its element type alone.
    #[arg(long)]
    precision: Option<Precision>,
    /// How long the program may take for one case.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    time_limit: f64,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    engines: Engines,
    /// Number of generated cases.
    #[arg(long, default_value_t = 1000)]
    cases: usize,
    /// Case i is the case of seed number SEED + i.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Draw cases with this profile only; several of one kind are drawn from. An unknown name lists all.
    #[arg(long, value_name = "PROFILE")]
    profile: Vec<Profile>,
    /// Run every safetensors file of a directory besides, with each order it holds.
    #[arg(long, value_name = "DIR")]
    golden: Option<PathBuf>,
    /// What to print.
    #[arg(long, default_value = "table")]
    format: Format,
    /// Where failing cases are written.
    #[arg(long, value_name = "DIR", default_value = "binned-experts-failures")]
    save: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A report.
    Table,
    /// A JSON object for each case and engine, and a last one with the totals.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The case, as safetensors.
    case: PathBuf,
    #[command(flatten)]
    engines: Engines,
    /// Where the output and the stages are written.
    #[arg(long)]
    out: PathBuf,
    /// An int64 tensor of the case that is taken as the explicit order, such as cpu.sorted_indices.
    #[arg(long, value_name = "TENSOR")]
    order: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Case {
    /// The case as text; - reads standard input.
    #[arg(required_unless_present = "seed", conflicts_with = "seed")]
    spec: Option<PathBuf>,
    /// The case of a seed number.
    #[arg(long)]
    seed: Option<u64>,
    /// Draw it with this profile.
    #[arg(long, value_name = "PROFILE", requires = "seed")]
    profile: Vec<Profile>,
    /// Where the case is written.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The case, as text or as safetensors; - reads text from standard input.
    case: PathBuf,
    #[command(flatten)]
    engines: Engines,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// A built-in engine.
    engine: String,
    /// Other machine code for the kernels of the engine cuda-hopper or cuda-portable.
    #[cfg(feature = "cuda")]
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
}

#[cfg(feature = "emulator")]
#[derive(Debug, Args)]
pub(crate) struct Zoo {
    /// Which bugs; none stands for all.
    #[arg(value_name = "NAME")]
    animals: Vec<String>,
    /// Only those of these kernels.
    #[arg(long, value_name = "NAME")]
    path: Option<KernelPath>,
    /// Where the kernels are run.
    #[arg(long, default_value = "emulator")]
    engine: ZooEngine,
    /// Number of cases within which each must be caught.
    #[arg(long, default_value_t = 1000)]
    cases: usize,
    /// Case i is the f32 case of seed number SEED + i.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where the bugs are kept.
    #[arg(long, value_name = "DIR", default_value = "tests/zoo")]
    zoo: PathBuf,
}

#[cfg(feature = "emulator")]
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ZooEngine {
    /// The emulator.
    #[value(alias = "host")]
    Emulator,
    /// The first GPU, with kernels that NVRTC compiles.
    #[cfg(feature = "cuda")]
    Cuda,
}

/// Does what the arguments say; whether all agree.
pub(crate) fn run(cli: Cli) -> Result<bool, Failure> {
    match cli.task {
        Task::Check(arguments) => check::check(&arguments),
        Task::Run(arguments) => files::run(&arguments),
        Task::Case(arguments) => files::case(&arguments),
        Task::Replay(arguments) => files::replay(&arguments),
        Task::Engines => {
            engines::list()?;
            Ok(true)
        }
        Task::Serve(arguments) => serve::run(&arguments),
        #[cfg(feature = "emulator")]
        Task::Zoo(arguments) => zoo::zoo(&arguments),
    }
}

/// Prints a line; unlike `println!`, it can fail.
fn print(text: impl std::fmt::Display) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{text}")
}

/// Whether a failure is only that nobody reads what is printed, as with `| head`.
pub(crate) fn is_broken_pipe(failure: &Failure) -> bool {
    failure
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn seconds(text: &str) -> Result<f64, String> {
    let refused = || format!("expected a number of seconds above 0 and at most 86400, found {text}");
    text.parse()
        .ok()
        .filter(|seconds| *seconds > 0.0 && *seconds <= 86400.0)
        .ok_or_else(refused)
}
