//! Times of one workload, on a machine and by the reference.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use binned_experts_gpu::{GpuError, Machine, Pipeline};
use binned_experts_reference::{Problem, binned_experts_ref};
use cudarc::driver::{CudaStream, sys::CUevent_flags};
use ndarray::Array3;

use super::Failure;
use super::timed::Timed;
use super::validate::{Error, Sample, is_same};
use super::workload::with_fallback_tokens;

/// One token in so many is left to the fallback kernels.
pub(crate) const FALLBACK_TOKENS: [usize; 4] = [512, 64, 8, 1];

/// How often things are repeated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Runs before the timed ones.
    pub(crate) warmup: usize,
    /// Timed runs on the machine.
    pub(crate) repetitions: usize,
    /// The idle time before a burst.
    pub(crate) pause: Duration,
    /// The time that a sustained load lasts before it is measured.
    pub(crate) load: Duration,
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
    /// Milliseconds of each of several runs that are queued one behind the other, so that no run waits for the host.
    fn queued(&self, count: usize, mut run: impl FnMut() -> Result<(), GpuError>) -> Result<Vec<f64>, Failure> {
        let Clock::Events(stream) = self else {
            return (0..count).map(|_| self.wall(&mut run)).collect();
        };
        let event = || stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
        let mut spans = Vec::new();
        for _ in 0..count {
            let start = event()?;
            run()?;
            spans.push((start, event()?));
        }
        stream.synchronize()?;
        let elapsed = spans.iter().map(|(start, end)| start.elapsed_ms(end).map(f64::from));
        Ok(elapsed.collect::<Result<_, _>>()?)
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
    /// From the definition, on the sample.
    pub(crate) sample_error: Error,
}

/// Times of a machine that are not those of a burst.
pub(crate) struct More {
    /// Under a load that has lasted for a while.
    pub(crate) sustained: Times,
    /// Of the inputs to the machine.
    pub(crate) upload: Times,
    /// Of the output from it.
    pub(crate) download: Times,
    /// Milliseconds of each kernel, launched apart, in their order.
    pub(crate) kernels: Vec<(&'static str, f64)>,
    /// Milliseconds of a burst with one token in so many left to the fallback kernels.
    pub(crate) fallback: Vec<(usize, f64)>,
    /// Milliseconds of packing the weights for the tensor cores, and the memory that takes.
    pub(crate) pack_ms: f64,
    pub(crate) packed_bytes: usize,
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
        sample_error: sample.error(&output),
    };
    Ok((measured, output))
}

/// Validates a machine's output, then times kernels and transfers apart. The weights are resident.
pub(crate) fn machine<M: Machine>(
    pipeline: &mut Pipeline<Timed<M>>,
    clock: &Clock,
    problem: &Problem<f32>,
    sample: &Sample,
    right: &Array3<f32>,
    effort: Effort,
) -> Result<(Measured, More), Failure> {
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
    sleep(effort.pause);
    clock.queued(effort.warmup, || uploaded.run())?;
    let times = Times {
        raw: clock.queued(effort.repetitions, || uploaded.run())?,
        warmup: effort.warmup,
    };
    let warmup = ((milliseconds(effort.load) / times.median()) as usize).max(effort.warmup);
    clock.queued(warmup, || uploaded.run())?;
    let sustained = Times {
        raw: clock.queued(effort.repetitions, || uploaded.run())?,
        warmup,
    };
    let download = repeated(effort, || clock.wall(|| uploaded.download().map(|_| ())))?;
    if !is_same(&output, &uploaded.download()?) {
        return Err("the timed runs computed something else".into());
    }
    let measured = Measured {
        first_ms,
        times,
        bound_used,
        error,
        sample_error: sample.error(&output),
    };
    sleep(effort.pause);
    let kernels = kernels(pipeline, problem, effort)?;
    let fallback = fallback(pipeline, clock, problem, effort)?;
    Ok((
        measured,
        More {
            sustained,
            upload,
            download,
            kernels,
            fallback,
            pack_ms: pack(pipeline, problem)?,
            packed_bytes: pipeline.packed_bytes(),
        },
    ))
}

/// Milliseconds of the kernels that pack the weights.
fn pack<M: Machine>(pipeline: &mut Pipeline<Timed<M>>, problem: &Problem<f32>) -> Result<f64, Failure> {
    pipeline.machine_mut().start();
    pipeline.load_weights(problem.weights().clone())?;
    let launches = pipeline.machine_mut().finish()?;
    Ok(launches.iter().map(|(_, time)| time).sum())
}

/// What rows cost that are left to the fallback kernels; nothing where all of them are theirs.
fn fallback<M: Machine>(
    pipeline: &mut Pipeline<Timed<M>>,
    clock: &Clock,
    problem: &Problem<f32>,
    effort: Effort,
) -> Result<Vec<(usize, f64)>, Failure> {
    if pipeline.packed_bytes() == 0 {
        return Ok(Vec::new());
    }
    let mut times = Vec::new();
    for every in FALLBACK_TOKENS {
        let changed = with_fallback_tokens(problem, every)?;
        let mut uploaded = pipeline.upload(&changed)?;
        sleep(effort.pause);
        clock.queued(effort.warmup, || uploaded.run())?;
        let raw = clock.queued(effort.repetitions, || uploaded.run())?;
        let warmup = effort.warmup;
        times.push((every, Times { raw, warmup }.median()));
    }
    Ok(times)
}

/// The median time of each kernel of a forward, in the order of their launches.
fn kernels<M: Machine>(
    pipeline: &mut Pipeline<Timed<M>>,
    problem: &Problem<f32>,
    effort: Effort,
) -> Result<Vec<(&'static str, f64)>, Failure> {
    let mut times: BTreeMap<(usize, &str), Vec<f64>> = BTreeMap::new();
    for repetition in 0..effort.warmup + effort.repetitions {
        let mut uploaded = pipeline.upload(problem)?;
        uploaded.machine_mut().start();
        uploaded.run()?;
        let launches = uploaded.machine_mut().finish()?;
        for (position, (kernel, time)) in launches.into_iter().enumerate() {
            if repetition >= effort.warmup {
                times.entry((position, kernel)).or_default().push(time);
            }
        }
    }
    let medians = times.into_iter().map(|((_, kernel), raw)| {
        (
            kernel,
            Times {
                raw,
                warmup: effort.warmup,
            }
            .median(),
        )
    });
    Ok(medians.collect())
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
