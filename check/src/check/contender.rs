//! An engine under check.

use std::sync::Arc;

use super::CheckError;
use super::again::Again;
use super::pool::{AnyEngine, OpenEngine, OpenError, Pool};
use super::source::Case;
use crate::case::ElementType;
use crate::domain::Domain;
use crate::engine::Engine;
use crate::judge::Judgement;
use crate::oracle::Precision;

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
    Single(&'a mut dyn Engine, Again),
    /// On any thread.
    Several(Arc<Pool<'a>>),
}

impl<'a> Contender<'a> {
    /// An engine that computes one case after the other, in their order, on the calling thread.
    pub fn single(engine: &'a mut dyn Engine) -> Contender<'a> {
        Contender {
            claims: Claims::of(engine),
            engines: Engines::Single(engine, Again::default()),
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
    pub(super) fn with<R>(&mut self, run: impl FnOnce(&mut dyn Engine, &mut Again) -> R) -> Result<R, CheckError> {
        match &mut self.engines {
            Engines::Single(engine, again) => Ok(run(*engine, again)),
            Engines::Several(pool) => pool.with(run).map_err(|error| self.claims.refused(error)),
        }
    }

    /// Asks the engine, or each of them, once more what it was right on first.
    pub(super) fn once_more(&mut self) -> Vec<(Case, Judgement)> {
        match &mut self.engines {
            Engines::Single(engine, again) => again.once_more(*engine).into_iter().collect(),
            Engines::Several(pool) => pool.once_more(),
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
