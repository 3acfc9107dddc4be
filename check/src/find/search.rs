//! The search along each axis.

use super::FindError;
use super::probe::{Probe, Reply, Tally};
use super::rule::{conditions, divisor};
use super::start::starts;
use crate::case::{
    CaseSpec, ElementType, LayerSpec, OrderProfile, Place, Routing, RoutingProfile, Special, SpecialValue,
};
use crate::domain::{Axis, Domain, Sizes, Taken, TieOrder};
use crate::engine::Engine;

/// H and I that are tried.
const WIDTHS: [usize; 38] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 16, 17, 20, 24, 31, 32, 33, 40, 48, 63, 64, 65, 72, 80, 96, 127, 128, 129,
    160, 192, 256, 257, 320, 384, 512, 1024,
];
/// T that are tried.
const TOKENS: [usize; 35] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128, 129, 192, 256, 257,
    512, 513, 1024, 4096, 16_384, 32_768,
];
/// E that are tried.
const EXPERTS: [usize; 33] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128, 129, 255, 256, 257, 511,
    512, 513, 1024, 1025,
];
/// K that are tried.
const SLOTS: [usize; 22] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 20, 24, 32, 33, 64,
];
/// C that are tried, from the fullest expert on.
const CAPACITIES: [usize; 6] = [1_000, 4_096, 65_535, 65_536, 70_000, 1 << 20];

/// The domain as it is found, from a case that the kernel takes.
pub(super) struct Search<'a> {
    pub(super) probe: Probe<'a>,
    /// A case that is taken; its sizes are the least that are known to be.
    pub(super) base: CaseSpec,
    pub(super) domain: Domain,
    pub(super) evidence: Vec<(&'static str, Tally)>,
}

impl<'a> Search<'a> {
    pub(super) fn new(engine: &'a mut dyn Engine, start: Option<[usize; 5]>) -> Result<Search<'a>, FindError> {
        let mut probe = Probe::new(engine);
        let mut tried = 0;
        let takes = |element: &ElementType| probe.engine().precision(*element).is_some();
        let element = ElementType::ALL.iter().copied().find(takes).unwrap_or(ElementType::F32);
        for spec in starts(element, start) {
            tried += 1;
            // A wrong result is no start: what is taken could not be told from what is not.
            if probe.ask(&spec)? == Some(Reply::Right) {
                // What is wrong with another layer may be right with this one.
                probe.wrong.retain(|(wrong, _)| wrong.layer == spec.layer);
                return Ok(Search {
                    probe,
                    base: spec,
                    domain: Domain::in_stable_order(),
                    evidence: Vec::new(),
                });
            }
        }
        Err(FindError::NothingTaken { tried })
    }

    /// Asks about a change of the base for the evidence of a field; none where it gives no case.
    pub(super) fn ask(
        &mut self,
        tally: &mut Tally,
        change: impl FnOnce(&mut CaseSpec),
    ) -> Result<Option<Reply>, FindError> {
        let mut spec = self.base.clone();
        change(&mut spec);
        let reply = self.probe.ask(&spec)?;
        if let Some(reply) = reply {
            tally.add(reply);
        }
        Ok(reply)
    }

    pub(super) fn element_types(&mut self) -> Result<(), FindError> {
        let mut tally = Tally::default();
        let mut precisions = Vec::new();
        for &element in ElementType::ALL {
            let Some(precision) = self.probe.engine().precision(element) else {
                continue;
            };
            let reply = self.ask(&mut tally, |spec| spec.element = element)?;
            if reply.is_some_and(Reply::is_taken) {
                precisions.push(precision);
            }
        }
        self.domain.precision = Some(precisions);
        self.evidence.push(("precision", tally));
        Ok(())
    }

    /// Those of published models. A kernel that knows one layer computes that of every case, so a wrong result is no bug here.
    pub(super) fn layers(&mut self) -> Result<(), FindError> {
        let mut tally = Tally::default();
        let mut taken = Vec::new();
        for (_, layer) in LayerSpec::NAMED {
            let known = self.probe.wrong.len();
            let spec = CaseSpec {
                layer,
                ..self.base.clone()
            };
            let reply = self.probe.ask(&spec)?;
            self.probe.wrong.truncate(known);
            match reply {
                Some(Reply::Right) => taken.push(layer),
                Some(Reply::Crashed) => tally.add(Reply::Crashed),
                _ => tally.add(Reply::Declined),
            }
        }
        tally.right = taken.len();
        if taken != [LayerSpec::default()] {
            self.domain.layers = Some(Taken::Listed(taken));
        }
        self.evidence.push(("layers", tally));
        Ok(())
    }

    /// H and I: together, then H alone, then I alone.
    pub(super) fn widths(&mut self) -> Result<(), FindError> {
        let (hidden, inner) = (self.base.hidden, self.base.intermediate);
        let mut tally = Tally::default();
        // Where I has to be H, no other H goes with the I of the base.
        let mut is_square = hidden == inner;
        for &width in WIDTHS.iter().filter(|width| **width != hidden) {
            if !is_square {
                break;
            }
            let both = self.ask(&mut tally, |spec| (spec.hidden, spec.intermediate) = (width, width))?;
            if both.is_some_and(Reply::is_taken) {
                let alone = self.ask(&mut tally, |spec| spec.hidden = width)?;
                is_square = !alone.is_some_and(Reply::is_taken);
            }
        }
        // One width that is taken says nothing of two.
        is_square &= tally.right + tally.wrong > 0;
        if is_square {
            let sizes = self.axis("hidden", &WIDTHS, |spec, width| {
                (spec.hidden, spec.intermediate) = (width, width)
            })?;
            self.domain.intermediate.equals = Some(Axis::Hidden);
            self.evidence.push(("intermediate", tally));
            self.base.hidden = sizes.at_least(1).unwrap_or(hidden);
            self.base.intermediate = self.base.hidden;
            self.domain.hidden = sizes;
            return Ok(());
        }
        let sizes = self.axis("hidden", &WIDTHS, |spec, width| spec.hidden = width)?;
        self.base.hidden = sizes.at_least(1).unwrap_or(hidden);
        self.domain.hidden = sizes;
        let sizes = self.axis("intermediate", &WIDTHS, |spec, width| spec.intermediate = width)?;
        self.base.intermediate = sizes.at_least(1).unwrap_or(inner);
        self.domain.intermediate = sizes;
        Ok(())
    }

    pub(super) fn tokens(&mut self) -> Result<(), FindError> {
        self.domain.tokens = self.axis("tokens", &TOKENS, |spec, tokens| {
            // Different experts in a token, so that no expert has more assignments.
            (spec.sequence, spec.capacity) = (tokens, tokens);
        })?;
        Ok(())
    }

    /// With the least K, so that few experts go with it.
    pub(super) fn experts(&mut self) -> Result<(), FindError> {
        let mut tally = Tally::default();
        for least in [1, 2] {
            let reply = self.ask(&mut tally, |spec| set_slots(spec, least))?;
            if reply.is_some_and(Reply::is_taken) {
                set_slots(&mut self.base, least);
                break;
            }
        }
        let top_k = self.base.top_k;
        let enough: Vec<usize> = EXPERTS.iter().copied().filter(|experts| *experts >= top_k).collect();
        self.domain.experts = self.axis("experts", &enough, |spec, experts| spec.experts = experts)?;
        // That K needs so many experts is no limit of their number.
        if self.domain.experts.min == Some(top_k) {
            self.domain.experts.min = None;
        }
        Ok(())
    }

    /// With so many experts that each K can have different ones, then with an expert twice.
    pub(super) fn slots(&mut self) -> Result<(), FindError> {
        let most = self
            .domain
            .experts
            .at_most(128)
            .or_else(|| self.domain.experts.at_least(1));
        let experts = most.unwrap_or(self.base.experts).max(self.base.experts);
        let possible: Vec<usize> = SLOTS.iter().copied().filter(|slots| *slots <= experts).collect();
        self.domain.top_k = self.axis("top_k", &possible, |spec, slots| {
            spec.experts = experts;
            set_slots(spec, slots);
        })?;
        let mut tally = Tally::default();
        let twice = self.domain.top_k.at_least(2).unwrap_or(2);
        let mut replies = Vec::new();
        for (routing, seed) in [
            (RoutingProfile::TwoEqual, 1),
            (RoutingProfile::AllEqual, 2),
            (RoutingProfile::Uniform, 3),
        ] {
            let reply = self.ask(&mut tally, |spec| {
                spec.experts = spec.experts.max(4).min(experts);
                set_slots(spec, twice);
                (spec.routing, spec.distinct, spec.seed) = (Routing::Profile(routing), false, seed);
            })?;
            replies.extend(reply);
        }
        if !replies.iter().any(|reply| reply.is_taken()) {
            self.domain.duplicates = Some(false);
        }
        self.evidence.push(("duplicates", tally));
        Ok(())
    }

    pub(super) fn capacity(&mut self) -> Result<(), FindError> {
        let fullest = self.base.tokens() * self.base.top_k;
        let sizes = [&[fullest][..], &CAPACITIES].concat();
        self.domain.capacity = self.axis("capacity", &sizes, |spec, capacity| spec.capacity = capacity)?;
        // The least that was asked for drops nothing, and is no limit.
        self.domain.capacity.min = None;
        let mut tally = Tally::default();
        let mut is_taken = false;
        for capacity in [0, 1, 2] {
            let reply = self.ask(&mut tally, |spec| {
                spec.routing = Routing::Profile(RoutingProfile::AllToFirst);
                spec.sequence = spec.sequence.max(4);
                spec.capacity = capacity;
            })?;
            is_taken |= reply.is_some_and(Reply::is_taken);
        }
        if !is_taken {
            self.domain.drops = Some(false);
        }
        self.evidence.push(("drops", tally));
        Ok(())
    }

    pub(super) fn numbers(&mut self) -> Result<(), FindError> {
        let (mut alphas, mut limits) = (Vec::new(), Vec::new());
        let (mut of_alpha, mut of_limit) = (Tally::default(), Tally::default());
        let (tried_alphas, tried_limits) = ([1.702, 1.0, 0.5, 3.0], [7.0, 1.0, 0.25, 1e4, f64::INFINITY]);
        for alpha in tried_alphas {
            let reply = self.ask(&mut of_alpha, |spec| spec.alpha = alpha)?;
            alphas.extend(reply.filter(|reply| reply.is_taken()).map(|_| alpha));
        }
        for limit in tried_limits {
            let reply = self.ask(&mut of_limit, |spec| spec.limit = limit)?;
            limits.extend(reply.filter(|reply| reply.is_taken()).map(|_| limit));
        }
        self.domain.alpha = Some(alphas).filter(|alphas| alphas.len() < tried_alphas.len());
        self.domain.limit = Some(limits).filter(|limits| limits.len() < tried_limits.len());
        self.evidence.push(("alpha", of_alpha));
        self.evidence.push(("limit", of_limit));
        Ok(())
    }

    pub(super) fn values_and_order(&mut self) -> Result<(), FindError> {
        let mut tally = Tally::default();
        let mut is_taken = false;
        for value in [SpecialValue::Nan, SpecialValue::Inf, SpecialValue::NegativeInf] {
            for place in [Place::Token, Place::Expert, Place::Weight] {
                let reply = self.ask(&mut tally, |spec| spec.special = Some(Special { value, place }))?;
                is_taken |= reply.is_some_and(Reply::is_taken);
            }
        }
        if !is_taken {
            self.domain.finite = Some(true);
        }
        self.evidence.push(("finite", tally));
        self.tie_order()
    }

    /// An order shows where it drops: all on one expert, half of it dropped. Who takes none is asked for the stable one,
    /// so that a wrong result here is none.
    fn tie_order(&mut self) -> Result<(), FindError> {
        if !self.probe.engine().domain().takes_order() || self.domain.drops == Some(false) {
            return Ok(());
        }
        let mut tally = Tally::default();
        let reply = self.ask(&mut tally, |spec| {
            spec.routing = Routing::Profile(RoutingProfile::AllToFirst);
            spec.sequence = spec.sequence.max(8);
            spec.capacity = spec.sequence / 2;
            spec.order = Some(OrderProfile::TiesReversed);
        })?;
        if reply == Some(Reply::Right) {
            self.domain.tie_order = Some(TieOrder::Given);
        }
        self.evidence.push(("tie_order", tally));
        Ok(())
    }

    /// The sizes of an axis that are taken.
    fn axis(
        &mut self,
        field: &'static str,
        sizes: &[usize],
        set: impl Fn(&mut CaseSpec, usize),
    ) -> Result<Sizes, FindError> {
        let mut tally = Tally::default();
        let (mut taken, mut refused) = (Vec::new(), Vec::new());
        let mut ask = |search: &mut Search<'_>, size: usize, tally: &mut Tally| {
            let reply = search.ask(tally, |spec| set(spec, size))?;
            match reply {
                Some(reply) if reply.is_taken() => taken.push(size),
                Some(_) => refused.push(size),
                None => {}
            }
            Ok::<_, FindError>((taken.clone(), refused.clone()))
        };
        let mut known = (Vec::new(), Vec::new());
        for &size in sizes {
            known = ask(self, size, &mut tally)?;
        }
        while let Some(size) = between(&known.0, &known.1) {
            known = ask(self, size, &mut tally)?;
        }
        self.evidence.push((field, tally));
        Ok(conditions(&known.0, &known.1))
    }
}

/// A size that is not known yet, between the greatest that is taken and the least above it that is not; a multiple of all
/// that are taken.
fn between(taken: &[usize], refused: &[usize]) -> Option<usize> {
    let divisor = divisor(taken).max(1);
    let greatest = *taken.iter().max()?;
    let above = *refused.iter().filter(|size| **size > greatest).min()?;
    let half = greatest + (above - greatest) / 2;
    let size = half - half % divisor;
    let size = if size <= greatest { greatest + divisor } else { size };
    (size < above).then_some(size)
}

fn set_slots(spec: &mut CaseSpec, slots: usize) {
    spec.top_k = slots;
    spec.experts = spec.experts.max(slots);
    spec.capacity = spec.tokens() * slots;
    spec.distinct = true;
}
