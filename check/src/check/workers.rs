//! The threads of a check: each takes the next case, prepares it, and runs the engines that may run on any thread.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::contender::Claims;
use super::pool::Pool;
use super::source::{Case, Sources};
use super::{CheckError, Contender};
use crate::engine::Stop;
use crate::judge::{Judgement, SkipReason, Trial};

/// How many cases for each thread may be ahead of the one that is recorded next, where the threads run every engine.
const JUDGED_AHEAD: usize = 64;
/// The same where some engine is left to the thread that records: its cases wait with all their tensors.
const PREPARED_AHEAD: usize = 8;
/// How often a wait for a case looks whether the run is stopped.
const GLANCE: Duration = Duration::from_millis(50);

/// Threads, and what they know of the engines.
pub(super) struct Workers<'a> {
    threads: usize,
    engines: Vec<Known<'a>>,
}

/// What the threads know of an engine.
struct Known<'a> {
    claims: Claims,
    /// None where the thread that records the cases has the engine.
    pool: Option<Arc<Pool<'a>>>,
    given_up: AtomicBool,
}

/// One engine on a case.
pub(super) enum Judged {
    Done(Judgement),
    /// Only the thread that records the cases has the engine.
    Left(Arc<Trial>),
}

/// What a thread sends.
enum Message {
    Case(usize, Arc<Case>, Vec<Judged>),
    /// An engine could not be opened, or a case not be built.
    Failed(CheckError),
    /// A bug of this crate.
    Panicked(Box<dyn Any + Send>),
}

/// The number of cases that are recorded. Threads wait until theirs is near enough.
#[derive(Default)]
struct Window {
    recorded: Mutex<usize>,
    moved: Condvar,
    ended: AtomicBool,
}

impl<'a> Workers<'a> {
    /// A thread for each core, or more where more engines may run side by side.
    pub(super) fn new(contenders: &[Contender<'a>]) -> Workers<'a> {
        let known = |contender: &Contender<'a>| Known {
            claims: contender.claims().clone(),
            pool: contender.pool().cloned(),
            given_up: AtomicBool::new(false),
        };
        let engines: Vec<Known<'a>> = contenders.iter().map(known).collect();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let pools = engines.iter().filter_map(|engine| engine.pool.as_ref());
        Workers {
            threads: pools.map(|pool| pool.most()).fold(cores, usize::max),
            engines,
        }
    }

    /// No longer runs an engine.
    pub(super) fn give_up(&self, engine: usize) {
        self.engines[engine].given_up.store(true, Ordering::Relaxed);
    }

    /// Hands every case to `record`, in order, until it breaks or the run is stopped.
    pub(super) fn run(
        &self,
        sources: &Sources,
        stop: &Stop,
        mut record: impl FnMut(Arc<Case>, Vec<Judged>) -> Result<ControlFlow<()>, CheckError>,
    ) -> Result<(), CheckError> {
        let window = Window::default();
        let next = AtomicUsize::new(0);
        let (sender, messages) = channel();
        std::thread::scope(|scope| {
            // However this thread leaves, the others end.
            let _end = End(&window);
            for _ in 0..self.threads.min(sources.len()) {
                let sender = sender.clone();
                scope.spawn(|| self.work(sources, &next, &window, sender));
            }
            drop(sender);
            let mut waiting = BTreeMap::new();
            let mut recorded = 0;
            while recorded < sources.len() && !stop.is_set() {
                match messages.recv_timeout(GLANCE) {
                    Ok(Message::Case(index, case, judged)) => waiting.insert(index, (case, judged)),
                    Ok(Message::Failed(error)) => return Err(error),
                    Ok(Message::Panicked(panic)) => resume_unwind(panic),
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => {
                        unreachable!("a thread ends when every case is sent, or with a message")
                    }
                };
                while let Some((case, judgements)) = waiting.remove(&recorded).filter(|_| !stop.is_set()) {
                    if record(case, judgements)?.is_break() {
                        return Ok(());
                    }
                    recorded += 1;
                    window.advance();
                }
            }
            Ok(())
        })
    }

    fn work(&self, sources: &Sources, next: &AtomicUsize, window: &Window, sender: Sender<Message>) {
        // A panic must reach the thread that waits for the case.
        let worked = catch_unwind(AssertUnwindSafe(|| {
            let have_every_engine = self.engines.iter().all(|engine| engine.pool.is_some());
            let ahead = self.threads
                * if have_every_engine {
                    JUDGED_AHEAD
                } else {
                    PREPARED_AHEAD
                };
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= sources.len() {
                    return Ok(());
                }
                let ahead = if sources.is_alone(index) { 1 } else { ahead };
                if !window.wait_for(index, ahead) {
                    return Ok(());
                }
                let (case, trial) = sources.prepare(index, |engine| !self.engines[engine].is_given_up())?;
                let (case, trial) = (Arc::new(case), Arc::new(trial));
                let judged = self.engines.iter().map(|engine| engine.judge(&case, &trial));
                let judgements = judged.collect::<Result<_, _>>()?;
                drop(trial);
                if sender.send(Message::Case(index, case, judgements)).is_err() {
                    return Ok(());
                }
            }
        }));
        // Nobody listens where the run has ended.
        let _ = match worked {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => sender.send(Message::Failed(error)),
            Err(panic) => sender.send(Message::Panicked(panic)),
        };
    }
}

impl Known<'_> {
    fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    fn judge(&self, case: &Arc<Case>, trial: &Arc<Trial>) -> Result<Judged, CheckError> {
        let Some(pool) = &self.pool else {
            return Ok(Judged::Left(trial.clone()));
        };
        if self.is_given_up() {
            return Ok(Judged::Done(Judgement::skipped(SkipReason::GivenUp)));
        }
        let judged = pool.with(|engine, again| again.judge(engine, case, trial));
        judged.map(Judged::Done).map_err(|error| self.claims.refused(error))
    }
}

impl Window {
    /// Waits until fewer than `ahead` cases lie between the last recorded one and this; false where the run has ended.
    fn wait_for(&self, index: usize, ahead: usize) -> bool {
        let recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        let far = |recorded: &mut usize| !self.ended.load(Ordering::Relaxed) && index >= *recorded + ahead;
        let waited = self.moved.wait_while(recorded, far);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        !self.ended.load(Ordering::Relaxed)
    }

    fn advance(&self) {
        *self.recorded.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.moved.notify_all();
    }
}

/// Ends the threads when it is dropped.
struct End<'a>(&'a Window);

impl Drop for End<'_> {
    fn drop(&mut self) {
        // Under the lock, so that no thread misses it between its test and its sleep.
        let recorded = self.0.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.ended.store(true, Ordering::Relaxed);
        drop(recorded);
        self.0.moved.notify_all();
    }
}
