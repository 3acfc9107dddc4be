//! A machine that can time each of its launches.

use std::sync::Arc;
use std::time::Instant;

use binned_experts_gpu::{Capabilities, GpuError, Launch, Machine, NamedArg};
use cudarc::driver::{CudaEvent, CudaStream, sys::CUevent_flags};

use super::Failure;

/// A machine, and the launches that it is to time.
pub(crate) struct Timed<M> {
    machine: M,
    /// The stream of a GPU; without one launches are timed by the wall.
    stream: Option<Arc<CudaStream>>,
    spans: Option<Vec<Span>>,
}

struct Span {
    kernel: &'static str,
    time: Time,
}

enum Time {
    Events(CudaEvent, CudaEvent),
    Milliseconds(f64),
}

impl<M> Timed<M> {
    pub(crate) fn new(machine: M, stream: Option<Arc<CudaStream>>) -> Timed<M> {
        Timed {
            machine,
            stream,
            spans: None,
        }
    }

    /// Times the launches to come.
    pub(crate) fn start(&mut self) {
        self.spans = Some(Vec::new());
    }

    /// The kernels launched since the start in their order, and their milliseconds.
    pub(crate) fn finish(&mut self) -> Result<Vec<(&'static str, f64)>, Failure> {
        let spans = self.spans.take().unwrap_or_default();
        let milliseconds = |span: Span| -> Result<_, Failure> {
            let time = match span.time {
                Time::Milliseconds(time) => time,
                Time::Events(start, end) => {
                    end.synchronize()?;
                    f64::from(start.elapsed_ms(&end)?)
                }
            };
            Ok((span.kernel, time))
        };
        spans.into_iter().map(milliseconds).collect()
    }

    fn event(&self) -> Result<Option<CudaEvent>, GpuError> {
        let event = |stream: &Arc<CudaStream>| stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
        self.stream
            .as_ref()
            .map(event)
            .transpose()
            .map_err(|error| GpuError::Driver {
                report: format!("{:?}", error.0),
            })
    }
}

// SAFETY: every call is passed on.
#[allow(unsafe_code, reason = "machines are trusted by the pipeline")]
unsafe impl<M: Machine> Machine for Timed<M> {
    type Buffer = M::Buffer;

    fn name(&self) -> &'static str {
        self.machine.name()
    }

    fn alloc(&mut self, bytes: usize) -> Result<M::Buffer, GpuError> {
        self.machine.alloc(bytes)
    }

    fn upload(&mut self, buffer: &mut M::Buffer, bytes: &[u8]) -> Result<(), GpuError> {
        self.machine.upload(buffer, bytes)
    }

    fn download(&mut self, buffer: &M::Buffer, first: usize, bytes: &mut [u8]) -> Result<(), GpuError> {
        self.machine.download(buffer, first, bytes)
    }

    fn discard(&mut self, buffer: &mut M::Buffer, used: usize) -> Result<(), GpuError> {
        self.machine.discard(buffer, used)
    }

    fn capabilities(&self) -> Capabilities {
        self.machine.capabilities()
    }

    unsafe fn launch(&mut self, launch: Launch, args: &[NamedArg<'_, M::Buffer>]) -> Result<(), GpuError> {
        if self.spans.is_none() {
            // SAFETY: as the caller vouches.
            return unsafe { self.machine.launch(launch, args) };
        }
        let (before, start) = (self.event()?, Instant::now());
        // SAFETY: as the caller vouches.
        unsafe { self.machine.launch(launch, args)? };
        let time = match (before, self.event()?) {
            (Some(before), Some(after)) => Time::Events(before, after),
            _ => Time::Milliseconds(1e3 * start.elapsed().as_secs_f64()),
        };
        self.spans.get_or_insert_default().push(Span {
            kernel: launch.kernel,
            time,
        });
        Ok(())
    }
}
