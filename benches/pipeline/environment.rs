//! Where and when a run took place.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use binned_experts_gpu::Cuda;

use super::Failure;

/// The machine that the kernels run on.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    /// As in the names of workloads: `cuda` or `host`.
    pub(crate) kind: &'static str,
    /// As a reader wants it.
    pub(crate) description: String,
    /// Fields of a record, empty where there is no such thing.
    pub(crate) gpu: String,
    pub(crate) cuda: String,
    pub(crate) compute_capability: String,
}

impl Device {
    pub(crate) fn of_cuda(cuda: &Cuda) -> Result<Device, Failure> {
        let context = cuda.stream().context();
        let (major, minor) = context.compute_capability()?;
        let description = cuda.description()?;
        // The description ends in the version of CUDA that the driver speaks.
        let version = description.rsplit(' ').next().unwrap_or_default().to_owned();
        let driver = output_of(
            "nvidia-smi",
            &["--query-gpu=driver_version", "--format=csv,noheader", "--id=0"],
        );
        Ok(Device {
            kind: "cuda",
            description: match driver {
                Some(driver) => format!("{description} ({driver})"),
                None => description,
            },
            gpu: context.name()?,
            cuda: version,
            compute_capability: format!("{major}.{minor}"),
        })
    }

    pub(crate) fn of_host() -> Device {
        Device {
            kind: "emulator",
            description: "emulator: the kernels on this CPU, for the test alone".to_owned(),
            gpu: String::new(),
            cuda: String::new(),
            compute_capability: String::new(),
        }
    }
}

/// What belongs to a run as a whole.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    /// None where the reference runs alone.
    pub(crate) device: Option<Device>,
    pub(crate) cpu: String,
    pub(crate) commit: String,
    /// Tells the run from others, in hex.
    pub(crate) run: String,
    pub(crate) command: String,
}

impl Environment {
    pub(crate) fn new(device: Option<Device>) -> Environment {
        let id = || RandomState::new().build_hasher().finish();
        let arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        let command: Vec<String> = ["cargo bench --bench pipeline --".to_owned()]
            .into_iter()
            .chain(arguments)
            .collect();
        Environment {
            device,
            cpu: cpu(),
            commit: commit(),
            run: format!("{:016x}{:016x}", id(), id()),
            command: command.join(" ").trim_end_matches(" --").to_owned(),
        }
    }
}

/// The commit that was built, marked where the files differ from it; a bundle names it in `BINNED_EXPERTS_COMMIT`.
fn commit() -> String {
    std::env::var("BINNED_EXPERTS_COMMIT").unwrap_or_else(|_| {
        let described = output_of(
            "git",
            &["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        );
        described.unwrap_or_else(|| "unknown".to_owned())
    })
}

fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or(std::env::consts::ARCH, |(_, model)| model.trim());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{model}, {threads} threads")
}

/// The first line that a command prints, if it succeeds.
fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}

/// Now, as in `2026-11-22T23:35:36Z`.
pub(crate) fn timestamp() -> String {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs());
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The date a number of days after 1970-01-01, counted from a March so that a leap day ends its year.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_since_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * months_since_march + 2) / 5 + 1;
    let month = (months_since_march + 2) % 12 + 1;
    (400 * era + year_of_era + u64::from(month <= 2), month, day)
}
