//! Changes that make a case smaller or simpler.

use crate::case::{CaseSpec, LayerSpec, Routing};
use crate::domain::Domain;

/// `size` · `part` / `whole`, rounded down.
pub(super) fn in_proportion(size: usize, part: usize, whole: usize) -> usize {
    (size as u128 * part as u128 / whole as u128) as usize
}

/// Another layer, with the views of those tensors that it has.
pub(super) fn set_layer(spec: &mut CaseSpec, layer: LayerSpec) {
    spec.layer = layer;
    let viewable = spec.viewable();
    spec.views.retain(|tensor, _| viewable.contains(tensor));
}

/// Every id of a local expert.
pub(super) fn without_foreign(spec: &mut CaseSpec) {
    let local = |id: &mut i64| *id = (spec.local_expert(*id) % spec.experts.max(1)) as i64;
    let mut routing = spec.routing.clone();
    if let Routing::Table(table) = &mut routing {
        table.iter_mut().flatten().for_each(local);
    }
    spec.routing = routing;
    spec.foreign = None;
}

pub(super) fn keep_tokens(spec: &mut CaseSpec, tokens: std::ops::Range<usize>) {
    (spec.batch, spec.sequence) = (1, tokens.len());
    if let Routing::Table(table) = &mut spec.routing {
        *table = table[tokens].to_vec();
    }
}

pub(super) fn keep_slots(spec: &mut CaseSpec, top_k: usize) {
    spec.top_k = top_k;
    if let Routing::Table(table) = &mut spec.routing {
        table.iter_mut().for_each(|row| row.truncate(top_k));
    }
}

pub(super) fn keep_experts(spec: &mut CaseSpec, experts: usize) {
    let (first, before) = (spec.first_expert(), std::mem::replace(&mut spec.experts, experts));
    if let Routing::Table(table) = &mut spec.routing {
        let (first, before) = (first as i64, before as i64);
        let local = table
            .iter_mut()
            .flatten()
            .filter(|id| (first..first + before).contains(*id));
        local.for_each(|id| *id = first + (*id - first) % experts as i64);
    }
}

pub(super) fn remove_token(spec: &mut CaseSpec, token: usize) {
    (spec.batch, spec.sequence) = (1, spec.tokens() - 1);
    if let Routing::Table(table) = &mut spec.routing {
        table.remove(token);
    }
}

/// Sends a token to the first expert, or to the first K where they have to be different.
pub(super) fn set_row(spec: &mut CaseSpec, token: usize, domain: &Domain) {
    let first = spec.first_expert() as i64;
    if let Routing::Table(table) = &mut spec.routing {
        match domain.takes_duplicates() {
            true => table[token].fill(first),
            false => table[token] = (first..).take(spec.top_k).collect(),
        }
    }
}
