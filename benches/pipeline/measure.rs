//! Times of one workload, on a machine and by the reference.

use std::sync::Arc;
use std::time::{Duration, Instant};

use binned_experts_gpu::{GpuError, Machine, Pipeline};
use binned_experts_reference::{Problem, binned_experts_ref};
use cudarc::driver::{CudaStream, sys::CUevent_flags};
use ndarray::Array3;

use super::Failure;
use super::validate::{Error, Sample, is_same};

/// How often things are repeated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Runs before the timed ones.
    pub(crate) warmup: usize,
    /// Timed runs on the machine.
    pub(crate) repetitions: usize,
    /// Timed runs of the reference, fewer where they take long.
    pub(crate) reference_repetitions: usize,
    /// Time after which the reference is not run again.
    pub(crate) reference_budget: Duration,
}

/// How a machine's kernels are timed.
pub(crate) enum Clock {
    /// With events on the stream.
    Events(Arc<CudaStream>),
    /// Where a launch returns after its kernel.
    Wall,
}

impl Clock {
    /// Milliseconds that the kernels launched by `run` take.
    fn kernels(&self, run: impl FnOnce() -> Result<(), GpuError>) -> Result<f64, Failure> {
        let Clock::Events(stream) = self else {
            return self.wall(run);
        };
        let event = || stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
        let start = event()?;
        run()?;
        let end = event()?;
        end.synchronize()?;
        Ok(f64::from(start.elapsed_ms(&end)?))
    }

    /// Milliseconds of wall time until the machine has done all that `run` asks for.
    fn wall(&self, run: impl FnOnce() -> Result<(), GpuError>) -> Result<f64, Failure> {
        let start = Instant::now();
        run()?;
        if let Clock::Events(stream) = self {
            stream.synchronize()?;
        }
        Ok(milliseconds(start.elapsed()))
    }
}

/// Times of repeated runs in milliseconds, and how many runs came before.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Times {
    pub(crate) raw: Vec<f64>,
    pub(crate) warmup: usize,
}

impl Times {
    /// The time that a share of the runs does not exceed.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.raw.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        sorted
            .get((share * last as f64).round() as usize)
            .copied()
            .unwrap_or(f64::NAN)
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    pub(crate) fn mean(&self) -> f64 {
        self.raw.iter().sum::<f64>() / self.raw.len() as f64
    }

    /// Between the quartiles.
    pub(crate) fn spread(&self) -> f64 {
        self.quantile(0.75) - self.quantile(0.25)
    }
}

/// A validated and timed implementation.
pub(crate) struct Measured {
    /// Of the first call, which loads and allocates.
    pub(crate) first_ms: f64,
    pub(crate) times: Times,
    /// The largest share of a bound that the sample uses.
    pub(crate) bound_used: f64,
    /// From the reference; for the reference itself, from the definition.
    pub(crate) error: Error,
}

/// Of the inputs to the machine and of the output from it.
pub(crate) struct Transfers {
    pub(crate) upload: Times,
    pub(crate) download: Times,
}

/// Validates and times the reference. Its output is what the machine's is compared with.
pub(crate) fn reference(
    problem: &Problem<f32>,
    sample: &Sample,
    effort: Effort,
) -> Result<(Measured, Array3<f32>), Failure> {
    let start = Instant::now();
    let output = binned_experts_ref(problem)?.output;
    let first_ms = milliseconds(start.elapsed());
    let bound_used = sample.bound_used(&output)?;
    let mut raw = Vec::new();
    // The next run is expected to take as long as the first.
    let fits = |raw: &Vec<f64>| first_ms * (raw.len() + 2) as f64 <= milliseconds(effort.reference_budget);
    while raw.len() < effort.reference_repetitions && (raw.is_empty() || fits(&raw)) {
        let start = Instant::now();
        std::hint::black_box(binned_experts_ref(std::hint::black_box(problem))?);
        raw.push(milliseconds(start.elapsed()));
    }
    let measured = Measured {
        first_ms,
        times: Times { raw, warmup: 1 },
        bound_used,
        error: sample.error(&output),
    };
    Ok((measured, output))
}

/// Validates a machine's output, then times kernels and transfers apart. The weights are resident.
pub(crate) fn machine<M: Machine>(
    pipeline: &mut Pipeline<M>,
    clock: &Clock,
    problem: &Problem<f32>,
    sample: &Sample,
    right: &Array3<f32>,
    effort: Effort,
) -> Result<(Measured, Transfers), Failure> {
    let start = Instant::now();
    let output = pipeline.forward(problem)?;
    let first_ms = milliseconds(start.elapsed());
    if !is_same(&output, &pipeline.forward(problem)?) {
        return Err("two runs differ".into());
    }
    let bound_used = sample.bound_used(&output)?;
    let error = Error::between(&output, right);
    if !error.is_close {
        let absmax = error.absmax;
        return Err(
            format!("an output is not finite or far from the reference's; largest difference {absmax:e}").into(),
        );
    }

    let upload = repeated(effort, || clock.wall(|| pipeline.upload(problem).map(|_| ())))?;
    let mut uploaded = pipeline.upload(problem)?;
    let times = repeated(effort, || clock.kernels(|| uploaded.run()))?;
    let download = repeated(effort, || clock.wall(|| uploaded.download().map(|_| ())))?;
    if !is_same(&output, &uploaded.download()?) {
        return Err("the timed runs computed something else".into());
    }
    let measured = Measured {
        first_ms,
        times,
        bound_used,
        error,
    };
    Ok((measured, Transfers { upload, download }))
}

/// Times after a warm-up.
fn repeated(effort: Effort, mut once: impl FnMut() -> Result<f64, Failure>) -> Result<Times, Failure> {
    for _ in 0..effort.warmup {
        once()?;
    }
    Ok(Times {
        raw: (0..effort.repetitions).map(|_| once()).collect::<Result<_, _>>()?,
        warmup: effort.warmup,
    })
}

fn milliseconds(duration: Duration) -> f64 {
    1e3 * duration.as_secs_f64()
}
