//! An engine under check.

use std::sync::Arc;

use super::CheckError;
use super::pool::{AnyEngine, OpenEngine, OpenError, Pool};
use crate::domain::Domain;
use crate::engine::Engine;
use crate::oracle::Precision;
use crate::tensor::ElementType;

/// An engine under check.
pub struct Contender<'a> {
    claims: Claims,
    engines: Engines<'a>,
}

/// What an engine says of itself.
#[derive(Clone)]
pub(super) struct Claims {
    pub(super) name: String,
    pub(super) domain: Domain,
    /// On each element type that it takes.
    pub(super) precisions: Vec<(ElementType, Precision)>,
}

/// Where an engine computes.
enum Engines<'a> {
    /// On the thread that records the cases.
    Single(&'a mut dyn Engine),
    /// On any thread.
    Several(Arc<Pool<'a>>),
}

impl<'a> Contender<'a> {
    /// An engine that computes one case after the other, in their order, on the calling thread.
    pub fn single(engine: &'a mut dyn Engine) -> Contender<'a> {
        Contender {
            claims: Claims::of(engine),
            engines: Engines::Single(engine),
        }
    }

    /// An engine, and with it at most `most` that compute cases side by side, each in any order; `open` opens one more.
    /// What an engine gives for a case must not depend on the cases before. A single one computes one case after the
    /// other, in their order.
    pub fn several(engine: AnyEngine, open: Box<OpenEngine<'a>>, most: usize) -> Contender<'a> {
        Contender {
            claims: Claims::of(&*engine),
            engines: Engines::Several(Arc::new(Pool::new(engine, open, most))),
        }
    }

    pub(super) fn claims(&self) -> &Claims {
        &self.claims
    }

    /// What the threads take engines from; none where the cases are computed in their order.
    pub(super) fn pool(&self) -> Option<&Arc<Pool<'a>>> {
        match &self.engines {
            Engines::Several(pool) if pool.most() > 1 => Some(pool),
            _ => None,
        }
    }

    /// Runs the engine, or one of them.
    pub(super) fn with<R>(&mut self, run: impl FnOnce(&mut dyn Engine) -> R) -> Result<R, CheckError> {
        match &mut self.engines {
            Engines::Single(engine) => Ok(run(*engine)),
            Engines::Several(pool) => pool.with(run).map_err(|error| self.claims.refused(error)),
        }
    }
}

impl Claims {
    fn of(engine: &dyn Engine) -> Claims {
        let claim = |&element: &ElementType| Some((element, engine.precision(element)?));
        Claims {
            name: engine.name().to_owned(),
            domain: engine.domain(),
            precisions: ElementType::ALL.iter().filter_map(claim).collect(),
        }
    }

    /// An engine that could not be opened once more.
    pub(super) fn refused(&self, error: OpenError) -> CheckError {
        CheckError::Open {
            engine: self.name.clone(),
            error,
        }
    }

    pub(super) fn takes(&self, element: ElementType) -> bool {
        self.precisions.iter().any(|(known, _)| *known == element)
    }
}
