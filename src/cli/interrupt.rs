//! Signals that end a run early.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use binned_experts_check::Stop;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{Conclusion, Failure, note};

/// Signals closer to the first one are the same wish: `timeout` and terminals send one to the process and one to its
/// group.
const ONE_WISH: Duration = Duration::from_millis(500);

/// Ends a run with the results so far at the first SIGINT or SIGTERM, and the process at the next.
pub(super) struct Interrupts {
    pub(super) stop: Stop,
    signal: Arc<AtomicI32>,
}

/// Runs a command that a signal may end. What fails after the signal fails by it: the signal of a terminal also goes to
/// the compilers and programs that are at work.
pub(super) fn interruptible(
    command: impl FnOnce(&Interrupts) -> Result<Conclusion, Failure>,
) -> Result<Conclusion, Failure> {
    let interrupts = Interrupts::watch()?;
    match command(&interrupts) {
        Err(error) if interrupts.stop.is_set() => {
            note(format!("interrupted: {error}"));
            Ok(interrupts.conclusion())
        }
        found => found,
    }
}

impl Interrupts {
    fn watch() -> std::io::Result<Interrupts> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let (stop, first) = (Stop::default(), Arc::new(AtomicI32::new(0)));
        let interrupts = Interrupts {
            stop: stop.clone(),
            signal: first.clone(),
        };
        std::thread::spawn(move || {
            let mut since = None;
            for signal in signals.forever() {
                match since {
                    None => {
                        since = Some(Instant::now());
                        first.store(signal, Ordering::Relaxed);
                        stop.set();
                    }
                    Some(start) if start.elapsed() < ONE_WISH => {}
                    Some(_) => std::process::exit(status_of(signal).into()),
                }
            }
        });
        Ok(interrupts)
    }

    /// The conclusion of a command that a signal ended.
    pub(super) fn conclusion(&self) -> Conclusion {
        Conclusion::Interrupted(status_of(self.signal.load(Ordering::Relaxed)))
    }
}

/// The status of a process that a signal ended, as a shell reports it.
fn status_of(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}
