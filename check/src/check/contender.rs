//! An engine under check.

use std::error::Error;

use crate::engine::Engine;

/// Opens one more engine of a kind, for one more thread.
pub type OpenEngine<'a> = dyn Fn() -> Result<Box<dyn Engine>, Box<dyn Error + Send + Sync>> + Sync + 'a;

/// An engine under check.
pub struct Contender<'a> {
    engine: &'a mut dyn Engine,
    open: Option<&'a OpenEngine<'a>>,
}

impl<'a> Contender<'a> {
    /// An engine that computes every case on the calling thread.
    pub fn single(engine: &'a mut dyn Engine) -> Contender<'a> {
        Contender { engine, open: None }
    }

    /// An engine of which each thread opens one more, so that cases are computed side by side. What an engine gives for a
    /// case must not depend on the cases before.
    pub fn per_thread(engine: &'a mut dyn Engine, open: &'a OpenEngine<'a>) -> Contender<'a> {
        Contender {
            engine,
            open: Some(open),
        }
    }

    /// The engine on the calling thread.
    pub(super) fn engine(&mut self) -> &mut dyn Engine {
        self.engine
    }

    /// What it claims.
    pub(super) fn claims(&self) -> &dyn Engine {
        self.engine
    }

    pub(super) fn name(&self) -> String {
        self.engine.name().to_owned()
    }

    pub(super) fn open(&self) -> Option<&'a OpenEngine<'a>> {
        self.open
    }
}
