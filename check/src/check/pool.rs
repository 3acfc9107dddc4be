//! Engines of one kind that threads share.

use std::error::Error;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use super::again::Again;
use super::source::Case;
use crate::engine::Engine;
use crate::judge::Judgement;

/// An engine that may go from thread to thread.
pub type AnyEngine = Box<dyn Engine + Send>;

/// Why an engine could not be opened.
pub type OpenError = Box<dyn Error + Send + Sync>;

/// Opens one more engine of a kind.
pub type OpenEngine<'a> = dyn Fn() -> Result<AnyEngine, OpenError> + Send + Sync + 'a;

/// Engines of one kind. One more is opened where none is idle.
pub(super) struct Pool<'a> {
    open: Box<OpenEngine<'a>>,
    most: usize,
    engines: Mutex<Engines>,
    /// One is no longer in use.
    freed: Condvar,
}

struct Engines {
    /// The last one was used last.
    idle: Vec<(AnyEngine, Again)>,
    in_use: usize,
}

impl<'a> Pool<'a> {
    /// Begins with one engine; at most `most` are in use at once, and at least one can be.
    pub(super) fn new(engine: AnyEngine, open: Box<OpenEngine<'a>>, most: usize) -> Pool<'a> {
        Pool {
            open,
            most: most.max(1),
            engines: Mutex::new(Engines {
                idle: vec![(engine, Again::default())],
                in_use: 0,
            }),
            freed: Condvar::new(),
        }
    }

    /// The most that are in use at once.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Runs an engine that nobody else uses meanwhile. Waits for one where the most are in use.
    pub(super) fn with<R>(&self, run: impl FnOnce(&mut dyn Engine, &mut Again) -> R) -> Result<R, OpenError> {
        let _use = Use::new(self);
        let idle = self.lock().idle.pop();
        let opened = || Ok::<_, OpenError>(((self.open)()?, Again::default()));
        let (mut engine, mut again) = idle.map_or_else(opened, Ok)?;
        let result = run(&mut *engine, &mut again);
        self.lock().idle.push((engine, again));
        Ok(result)
    }

    /// Asks each idle engine once more what it was right on first, side by side.
    pub(super) fn once_more(&self) -> Vec<(Case, Judgement)> {
        let mut engines = self.lock();
        let idle = engines.idle.par_iter_mut();
        idle.filter_map(|(engine, again)| again.once_more(&mut **engine))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Engines> {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One engine in use, until it is dropped.
struct Use<'p, 'a>(&'p Pool<'a>);

impl<'p, 'a> Use<'p, 'a> {
    fn new(pool: &'p Pool<'a>) -> Use<'p, 'a> {
        let waited = pool
            .freed
            .wait_while(pool.lock(), |engines| engines.in_use >= pool.most);
        waited.unwrap_or_else(PoisonError::into_inner).in_use += 1;
        Use(pool)
    }
}

impl Drop for Use<'_, '_> {
    fn drop(&mut self) {
        self.0.lock().in_use -= 1;
        self.0.freed.notify_one();
    }
}
