//! The command: its arguments, and what each of its commands does.

mod check;
mod compare;
mod conclusion;
mod domain;
mod engines;
mod files;
mod help;
mod interrupt;
mod junit;
mod precision;
mod report;
mod saved;
mod serve;
mod shrink;
mod started;
#[cfg(feature = "emulator")]
mod zoo;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

#[cfg(feature = "emulator")]
use crate::zoo::KernelPath;
use binned_experts_check::case::{Model, Profile};
use binned_experts_check::check::Shard;
use binned_experts_check::domain::Sizes;
use binned_experts_check::{Domain, Precision};

use conclusion::Conclusion;
use interrupt::interruptible;
use precision::PrecisionParser;

/// A message for the person at the terminal.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// What the version is called, with the commit where it was built from one.
const VERSION: &str = env!("BINNED_EXPERTS_VERSION");

/// T of a model's cases if nobody says it.
const MODEL_TOKENS: usize = 512;

/// The most of one engine that compute side by side.
const MOST_JOBS: usize = 256;

/// Shown below the help of every command.
const STATUSES: &str = "Exit status:
  0    something was compared and all of it agrees, or the command did its work
  1    an engine disagrees, gave no answer, or is biased
  2    the command could not do its work (arguments, files, memory), or too little was compared
  130  interrupted by Ctrl-C, after the report so far
  143  interrupted by SIGTERM, after the report so far";

const EXAMPLES: &str = "Examples:
  binned-experts check --engine reference --cases 100
  binned-experts check --command 'python3 my_kernel.py' --precision bf16 --max-failures 10
  binned-experts check --command ./my_kernel --precision fp32 --profile tiny --profile distinct
  binned-experts check --command ./my_kernel --domain my_kernel.toml
  binned-experts check --rerun-failed --command ./my_kernel --precision fp32
  binned-experts replay FILE.toml --command ./my_kernel --precision fp32";

const CHECK_EXAMPLES: &str = "Examples:
  binned-experts check --command 'python3 my_kernel.py' --precision bf16
  binned-experts check --command ./my_kernel --precision fp32 --fail-fast --times
  binned-experts check --command ./my_kernel --precision fp32 --cases 0 --golden my-cases
  binned-experts check --command ./my_kernel --precision bf16 --model gpt-oss-20b --time-limit 300
  binned-experts check --command ./my_kernel --precision fp32 --cases 100000 --shard 3/8 --format json";

const COMPARE_EXAMPLES: &str = "Examples:
  binned-experts case --seed 7 --out case.safetensors
  binned-experts compare case.safetensors my-output.safetensors --precision bf16
  binned-experts compare case.safetensors --precision bf16 --bounds bounds.safetensors";

const REPORT_EXAMPLES: &str = "Examples:
  binned-experts check --command ./my_kernel --precision fp32 --shard 1/2 --format json > 1.json
  binned-experts check --command ./my_kernel --precision fp32 --shard 2/2 --format json > 2.json
  binned-experts report 1.json 2.json";

/// Tests mixture-of-experts kernels.
#[derive(Debug, Parser)]
#[command(version = VERSION, after_help = format!("{EXAMPLES}\n\n{STATUSES}"))]
pub(crate) struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run engines against the oracle on generated cases.
    #[command(after_help = format!("{CHECK_EXAMPLES}\n\n{STATUSES}"))]
    Check(Box<Check>),
    /// Run one file through one engine and write its output and stages.
    #[command(after_help = STATUSES)]
    Run(Run),
    /// Write a case as safetensors.
    Case(Case),
    /// Run one case through all engines and report in full.
    #[command(after_help = STATUSES)]
    Replay(Replay),
    /// Make a failing case smaller.
    #[command(after_help = STATUSES)]
    Shrink(Shrink),
    /// Find out what a kernel takes, and print it as a file for --domain.
    #[command(after_help = STATUSES)]
    Domain(Box<FindDomain>),
    /// Judge a result that is there already, or write what is expected.
    #[command(after_help = format!("{COMPARE_EXAMPLES}\n\n{STATUSES}"))]
    Compare(Compare),
    /// Merge the lines of `check --format json` of several runs into one report.
    #[command(after_help = format!("{REPORT_EXAMPLES}\n\n{STATUSES}"))]
    Report(Report),
    /// Answer requests as a program for --command does, with an engine of this crate.
    Serve(Serve),
    /// List the engines.
    Engines,
    /// List what --profile takes.
    Profiles,
    /// Print the completions of a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages of all commands.
    Man {
        /// The folder for them.
        directory: PathBuf,
    },
    /// Plant known bugs in the kernels and see whether a check catches them.
    #[cfg(feature = "emulator")]
    Zoo(Zoo),
}

const CLAIM: &str = "The arithmetic that the program claims, such as bf16 or bf16+slots-in-element+flush; it also \
decides the element type of its cases. Without it the program is asked what it takes. Without a program, one that all \
engines must claim: a check then draws cases of its element type alone";

const COMPARED: &str = "The arithmetic that is claimed, such as bf16 or bf16+slots-in-element+flush";

/// Which engines to use.
#[derive(Debug, Clone, Args)]
pub(crate) struct Engines {
    /// A built-in engine; may be given several times.
    #[arg(long, value_name = "NAME")]
    engine: Vec<String>,
    /// A program that speaks lines of JSON; see docs/protocol.md.
    #[arg(long, value_name = "CMD")]
    command: Option<String>,
    #[arg(long, value_parser = PrecisionParser, help = CLAIM, long_help = precision::long_help(CLAIM))]
    precision: Option<Precision>,
    /// What the kernel takes and claims, as TOML; every generated case is inside. See docs/protocol.md.
    #[arg(long, value_name = "FILE")]
    domain: Option<PathBuf>,
    /// How long the program may take for one case.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    time_limit: f64,
    /// How long the program may take from its start to its first line: {"ready": true}, or its first answer.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    start_limit: f64,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    engines: Engines,
    /// Number of generated cases. If not given, 1000, or 2 of the sizes of a large --model or --shape.
    #[arg(long)]
    cases: Option<usize>,
    /// Case i is the case of seed number SEED + i.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Draw cases with this profile only; several of one kind are drawn from. `profiles` lists all.
    #[arg(long, value_name = "PROFILE")]
    profile: Vec<Profile>,
    /// Run every safetensors file of a directory besides, with each order it holds.
    #[arg(long, value_name = "DIR")]
    golden: Option<PathBuf>,
    /// Run every case of a directory that is written as text (.toml) besides.
    #[arg(long, value_name = "DIR")]
    cases_from: Option<PathBuf>,
    /// What to print.
    #[arg(long, default_value = "table")]
    format: Format,
    /// Write the results as JUnit XML besides, also where the run ends early.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Where failing cases are written, in a folder for each run.
    #[arg(long, value_name = "DIR", default_value = "binned-experts-failures")]
    save: PathBuf,
    /// Run the cases that the newest run in the folder of --save wrote before the others.
    #[arg(long)]
    rerun_failed: bool,
    /// End the run at the first failure.
    #[arg(long, conflicts_with = "max_failures")]
    fail_fast: bool,
    /// End the run after so many failures.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_failures: Option<u64>,
    /// The most cases tried to make the first failing case of each kind smaller; 0 leaves it as it is.
    #[arg(long, value_name = "TRIES", default_value_t = 500)]
    shrink_budget: usize,
    /// Run the first failing case of each kind so many times more, and tell how often it fails.
    #[arg(long, value_name = "N", default_value_t = 0)]
    repeat: usize,
    /// Tell the sharpest precision that all results lie within, which takes several times as long.
    #[arg(long)]
    measure: bool,
    /// Run only the I-th of N shares of the cases, as one machine of several does.
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Give the generated cases these sizes, such as T=48,H=64,I=64,E=8,K=2; what is left out is any. Several take turns.
    /// Of a case that is too large to be judged whole, some tokens are judged; see docs/runs.md.
    #[arg(long, value_name = "SIZES", value_parser = shape, conflicts_with = "shapes")]
    shape: Vec<Domain>,
    /// Give the generated cases the sizes and the layer of a published model, such as gpt-oss-20b.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["shape", "shapes"])]
    model: Option<Model>,
    /// T of the cases of --model.
    #[arg(long, value_name = "N", default_value_t = MODEL_TOKENS, requires = "model")]
    tokens: usize,
    /// Draw so many H, I, E and K only, and all else as usual, for kernels that are compiled for each.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    shapes: Option<u64>,
    /// Run so many small cases one step beyond the limits of the domain besides. An engine should decline them or be
    /// right; what it does counts apart, and is a failure only with --strict.
    #[arg(long, value_name = "N", default_value_t = 0)]
    outside: usize,
    /// The fewest cases of each engine that have to be judged; fewer end with status 2. If not given, a tenth of those
    /// that are not skipped.
    #[arg(long, value_name = "N")]
    at_least: Option<usize>,
    /// A case that an engine declines inside its domain is a failure, and a wrong result or no answer beyond it.
    #[arg(long)]
    strict: bool,
    /// How many of each engine compute side by side: of a program, so many processes. If not given, one program, and of a
    /// built-in engine for the CPU one for each core.
    #[arg(long, value_name = "N", value_parser = jobs)]
    jobs: Option<usize>,
    /// Print the median and the longest time of a case for each engine.
    #[arg(long)]
    times: bool,
}

impl Check {
    fn max_failures(&self) -> Option<usize> {
        let most = self
            .max_failures
            .map(|most| usize::try_from(most).unwrap_or(usize::MAX));
        most.or(self.fail_fast.then_some(1))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A report.
    Table,
    /// A JSON object for each case and engine, and a last one with the totals; docs/report.schema.json describes them.
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
    /// A tensor of a safetensors case that is taken as the explicit order.
    #[arg(long, value_name = "TENSOR")]
    order: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Shrink {
    /// The failing case, as text; - reads standard input.
    case: PathBuf,
    #[command(flatten)]
    engines: Engines,
    /// The most cases tried.
    #[arg(long, value_name = "TRIES", default_value_t = 2000)]
    shrink_budget: usize,
    /// Where the smaller case is written; if not given, beside the case as NAME-shrunk.toml.
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct FindDomain {
    #[command(flatten)]
    engines: Engines,
    /// Sizes of a case that the kernel takes, such as T=48,H=64,I=64,E=8,K=2; without them some usual ones are tried.
    #[arg(long, value_name = "SIZES", value_parser = shape)]
    shape: Option<Domain>,
}

#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// The case, as text or as safetensors; - reads text from standard input.
    case: PathBuf,
    /// The result, as safetensors: `output`, and any other stages.
    #[arg(required_unless_present = "bounds")]
    output: Option<PathBuf>,
    #[arg(long, value_parser = PrecisionParser, help = COMPARED, long_help = precision::long_help(COMPARED))]
    precision: Precision,
    /// A tensor of a safetensors case that is taken as the explicit order.
    #[arg(long, value_name = "TENSOR")]
    order: Option<String>,
    /// Write the expected values of every stage, and as STAGE.bound how far a right result may be from each.
    #[arg(long, value_name = "FILE")]
    bounds: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// What `check --format json` printed on each machine.
    #[arg(required = true, value_name = "FILE")]
    results: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// A built-in engine.
    engine: String,
    /// Other machine code for the kernels of the engine of a GPU.
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
    /// Case i is the case of seed number SEED + i.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Draw the cases inside a domain: which bugs a kernel with these limits could hide.
    #[arg(long, value_name = "FILE")]
    domain: Option<PathBuf>,
    /// A folder with other bugs than those that are built in.
    #[arg(long, value_name = "DIR")]
    zoo: Option<PathBuf>,
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

/// Runs the command and returns its exit status, which its help lists. `started_as` are the words that start it again from a shell, such as
/// `binned-experts`; `arguments` those that follow.
pub fn main(started_as: Vec<String>, arguments: impl IntoIterator<Item = OsString>) -> u8 {
    started::remember(started_as);
    let words = std::iter::once(OsString::from(env!("CARGO_PKG_NAME"))).chain(arguments);
    match Cli::try_parse_from(words).map(run) {
        Ok(Ok(conclusion)) => conclusion.status(),
        Ok(Err(error)) => {
            if !is_broken_pipe(&error) {
                note(format!("error: {error}"));
            }
            Conclusion::FAILURE
        }
        // Help and version are such an error too. Where it cannot be printed there is nobody to tell.
        Err(error) => {
            let _ = error.print();
            u8::try_from(error.exit_code()).unwrap_or(Conclusion::FAILURE)
        }
    }
}

/// Does what the arguments say.
fn run(cli: Cli) -> Result<Conclusion, Failure> {
    match cli.task {
        Task::Check(arguments) => interruptible(|interrupts| check::check(&arguments, interrupts)),
        Task::Run(arguments) => interruptible(|interrupts| files::run(&arguments, interrupts)),
        Task::Case(arguments) => files::case(&arguments),
        Task::Replay(arguments) => interruptible(|interrupts| files::replay(&arguments, interrupts)),
        Task::Shrink(arguments) => interruptible(|interrupts| shrink::shrink(&arguments, interrupts)),
        Task::Engines => {
            engines::list()?;
            Ok(Conclusion::Done)
        }
        Task::Profiles => help::profiles(),
        Task::Completions { shell } => help::completions(shell),
        Task::Man { directory } => help::man(&directory),
        Task::Domain(arguments) => interruptible(|interrupts| domain::domain(&arguments, interrupts)),
        Task::Compare(arguments) => compare::compare(&arguments),
        Task::Report(arguments) => report::report(&arguments),
        Task::Serve(arguments) => serve::run(&arguments),
        #[cfg(feature = "emulator")]
        Task::Zoo(arguments) => interruptible(|interrupts| zoo::zoo(&arguments, interrupts)),
    }
}

/// Prints a line; unlike `println!`, it can fail.
fn print(text: impl std::fmt::Display) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{text}")
}

/// Prints a line to standard error. Where that cannot be written there is nobody to tell.
fn note(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Whether a failure is only that nobody reads what is printed, as with `| head`.
fn is_broken_pipe(failure: &Failure) -> bool {
    failure
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Sizes by their letters.
fn shape(text: &str) -> Result<Domain, String> {
    let mut shape = Domain::default();
    for part in text.split(',') {
        let refused = || format!("expected sizes by letter such as H=64, found {part}");
        let (letter, size) = part.split_once('=').ok_or_else(refused)?;
        let size = Sizes::only(size.trim().parse().map_err(|_| refused())?);
        match letter.trim() {
            "T" => shape.tokens = size,
            "H" => shape.hidden = size,
            "I" => shape.intermediate = size,
            "E" => shape.experts = size,
            "K" => shape.top_k = size,
            "C" => shape.capacity = size,
            _ => return Err(refused()),
        }
    }
    shape.check().map_err(|error| error.to_string())?;
    Ok(shape)
}

fn jobs(text: &str) -> Result<usize, String> {
    let refused = || format!("expected a number from 1 to {MOST_JOBS}, found {text}");
    text.parse()
        .ok()
        .filter(|jobs| (1..=MOST_JOBS).contains(jobs))
        .ok_or_else(refused)
}

fn seconds(text: &str) -> Result<f64, String> {
    let refused = || format!("expected a number of seconds above 0 and at most 86400, found {text}");
    text.parse()
        .ok()
        .filter(|seconds| *seconds > 0.0 && *seconds <= 86400.0)
        .ok_or_else(refused)
}
