//! From a case that fails to one that a person can read.
//!
//! Sizes, routing and values are made smaller or plainer step by step. A step is kept if the engine still fails in the
//! same way: a wrong result never becomes a refusal, nor one stage another. Values depend on their positions alone
//! ([`CaseSpec`]), so the rows and columns that remain keep their values. Every step stays inside the engine's domain. A
//! sampled case takes long, so it is not made smaller step by step: only cases of a fraction of its sizes are tried, all of
//! whose tokens are judged.

use super::Verdict;
use super::fractions::fractions;
use super::smaller::{
    in_proportion, keep_experts, keep_slots, keep_tokens, remove_token, set_layer, set_row, without_foreign,
};
use crate::case::{CaseSpec, ElementType, LayerSpec, Routing, ValueProfile, WeightProfile};
use crate::domain::{Domain, Sizes};

/// Cases without an answer in time after which no more are tried: each of them takes the whole limit.
const MAX_TIME_OUTS: usize = 3;
/// Runs of the first case, to see how often it fails.
const PROBES: usize = 4;
/// The most assignments for which the routing is written out, so that single tokens can be removed.
const MAX_TABLE: usize = 4096;

/// A failing case and its verdict.
#[derive(Debug, Clone, PartialEq)]
pub struct Shrunk {
    /// The smallest case found.
    pub spec: CaseSpec,
    /// The engine's verdict on it.
    pub verdict: Verdict,
    /// Number of cases tried.
    pub tries: usize,
    /// Whether no step makes it smaller; otherwise the search was cut short.
    pub is_smallest: bool,
}

/// Reduces a failing case in at most `most_tries` tries, so that the result is the same however fast a machine is.
/// `judge` gives an engine's verdict on a case inside `domain`; `verdict` is that on `spec`. The search ends early where
/// the machine fails, is stopped, or an engine keeps giving no answer in time.
pub fn shrink(
    spec: &CaseSpec,
    verdict: Verdict,
    domain: &Domain,
    most_tries: usize,
    judge: impl FnMut(&CaseSpec) -> Option<Verdict>,
) -> Shrunk {
    let mut smallest = Shrunk {
        spec: spec.clone(),
        verdict,
        tries: 0,
        is_smallest: false,
    };
    let mut search = Search {
        judge,
        likeness: smallest.verdict.likeness(),
        time_outs: 0,
        is_over: false,
    };
    // A case that fails only now and then, such as a race, is given more than one chance.
    let steady = spec.sampled || (0..PROBES).all(|_| search.failure(spec).is_some());
    let chances = if steady { 1 } else { 2 * PROBES };
    loop {
        let mut progress = false;
        for candidate in candidates(&smallest.spec, domain) {
            if smallest.tries >= most_tries || search.is_over {
                return smallest;
            }
            smallest.tries += 1;
            if let Some(verdict) = (0..chances).find_map(|_| search.failure(&candidate)) {
                smallest = Shrunk {
                    spec: candidate,
                    verdict,
                    ..smallest
                };
                progress = true;
                break;
            }
        }
        if !progress {
            smallest.is_smallest = !search.is_over;
            return smallest;
        }
    }
}

/// Asks for verdicts until it is no use.
struct Search<J> {
    judge: J,
    /// What a failure has to look like.
    likeness: String,
    time_outs: usize,
    is_over: bool,
}

impl<J: FnMut(&CaseSpec) -> Option<Verdict>> Search<J> {
    /// The verdict on a case that fails in the same way.
    fn failure(&mut self, spec: &CaseSpec) -> Option<Verdict> {
        if self.is_over {
            return None;
        }
        let verdict = (self.judge)(spec)?;
        self.time_outs += usize::from(verdict.is_time_out());
        self.is_over = self.time_outs >= MAX_TIME_OUTS || matches!(verdict, Verdict::NotJudged(_));
        (verdict.is_failure() && verdict.likeness() == self.likeness).then_some(verdict)
    }
}

/// Cases inside the domain that are one step simpler, the largest steps first.
fn candidates(spec: &CaseSpec, domain: &Domain) -> Vec<CaseSpec> {
    if spec.sampled {
        return fractions(spec, domain);
    }
    let sizes = domain.with_layer(spec.layer).axes();
    let with = |change: &dyn Fn(&mut CaseSpec)| {
        let mut changed = spec.clone();
        change(&mut changed);
        changed
    };
    let mut all = vec![with(&|spec| spec.order = None), with(&|spec| spec.warmup = None)];
    all.extend(
        simpler_layers(spec, domain)
            .into_iter()
            .map(|layer| with(&|spec| set_layer(spec, layer))),
    );
    all.push(with(&without_foreign));
    all.push(with(&|spec| spec.views.clear()));
    all.extend(spec.views.keys().map(|tensor| {
        with(&|spec| {
            spec.views.remove(tensor);
        })
    }));
    // A call before may be wrong by itself.
    all.extend(spec.predecessors());
    all.extend([
        with(&|spec| spec.larger = None),
        with(&|spec| (spec.special, spec.against) = (None, None)),
        with(&|spec| spec.against = None),
        with(&|spec| spec.routing = written_out(spec)),
        with(&|spec| (spec.batch, spec.sequence) = (1, spec.tokens())),
        with(&|spec| spec.element = ElementType::F32),
    ]);
    let fewer_tokens = smaller(&domain.tokens, spec.tokens(), 0);
    all.extend(
        fewer_tokens
            .iter()
            .map(|&tokens| with(&|spec| keep_tokens(spec, 0..tokens))),
    );
    all.extend(fewer_tokens.iter().map(|&tokens| {
        with(&|spec| {
            keep_tokens(spec, spec.tokens() - tokens..spec.tokens());
        })
    }));
    all.extend(
        smaller(&domain.top_k, spec.top_k, 1)
            .into_iter()
            .map(|top_k| with(&|spec| keep_slots(spec, top_k))),
    );
    all.extend(
        smaller(&domain.experts, spec.experts, 1)
            .into_iter()
            .map(|experts| with(&|spec| keep_experts(spec, experts))),
    );
    all.extend(
        smaller(&sizes.hidden, spec.hidden, 1)
            .into_iter()
            .map(|hidden| with(&|spec| spec.hidden = hidden)),
    );
    all.extend(
        smaller(&sizes.intermediate, spec.intermediate, 1)
            .into_iter()
            .map(|inner| with(&|spec| spec.intermediate = inner)),
    );
    all.extend(
        smaller(&domain.capacity, spec.capacity, 0)
            .into_iter()
            .map(|capacity| with(&|spec| spec.capacity = capacity)),
    );
    all.push(with(&|spec| {
        spec.capacity = spec.capacity.min(spec.tokens() * spec.top_k)
    }));
    // Some failures depend on the ratio of two sizes.
    all.extend(fewer_tokens.iter().map(|&tokens| {
        with(&|spec| {
            spec.capacity = in_proportion(spec.capacity, tokens, spec.tokens());
            keep_tokens(spec, 0..tokens);
        })
    }));
    all.extend(smaller(&sizes.hidden, spec.hidden, 1).into_iter().map(|hidden| {
        with(&|spec| {
            let inner = in_proportion(spec.intermediate, hidden, spec.hidden);
            spec.intermediate = sizes.intermediate.at_least(inner).unwrap_or(spec.intermediate);
            spec.hidden = hidden;
        })
    }));
    all.push(with(&|spec| spec.values = ValueProfile::Gentle));
    all.push(with(&|spec| spec.weights = WeightProfile::Normalised));
    all.push(with(&|spec| (spec.alpha, spec.limit) = (1.702, 7.0)));
    if let Routing::Table(table) = &spec.routing {
        for token in (0..table.len()).rev() {
            all.push(with(&|spec| remove_token(spec, token)));
        }
        for token in 0..table.len() {
            all.push(with(&|spec| set_row(spec, token, domain)));
        }
    }
    all.retain(|candidate| candidate != spec && domain.admits(candidate).is_ok());
    all
}

/// Sizes of a domain below `size`: the least first, then closer and closer ones.
fn smaller(admitted: &Sizes, size: usize, least: usize) -> Vec<usize> {
    let mut sizes = Vec::new();
    let mut step = size.saturating_sub(least);
    while step > 0 {
        let wanted = admitted.at_least(size - step).filter(|wanted| *wanted < size);
        sizes.extend(wanted.filter(|wanted| sizes.last() != Some(wanted)));
        step /= 2;
    }
    sizes
}

/// The routing as a table, where it is small enough to be read.
fn written_out(spec: &CaseSpec) -> Routing {
    match spec.router_indices() {
        Ok(indices) if indices.len() <= MAX_TABLE => {
            Routing::Table(indices.rows().into_iter().map(|row| row.to_vec()).collect())
        }
        _ => spec.routing.clone(),
    }
}

/// Each makes one field of a layer that of another.
const FIELDS: [fn(&mut LayerSpec, &LayerSpec); 11] = [
    |layer, other| layer.shared_experts = other.shared_experts,
    |layer, other| layer.output_type = other.output_type,
    |layer, other| layer.routing_weight_type = other.routing_weight_type,
    |layer, other| layer.bias_type = other.bias_type,
    |layer, other| layer.scale = other.scale,
    |layer, other| layer.weight_on = other.weight_on,
    |layer, other| layer.routing_weights = other.routing_weights,
    |layer, other| layer.projections = other.projections,
    |layer, other| layer.gate_up = other.gate_up,
    |layer, other| layer.bias = other.bias,
    |layer, other| layer.activation = other.activation,
];

/// The layer of gpt-oss, and this one with one field as there, if the domain has them.
fn simpler_layers(spec: &CaseSpec, domain: &Domain) -> Vec<LayerSpec> {
    let mut layers = vec![LayerSpec::default()];
    layers.extend(domain.drawn_layers());
    layers.extend(with_one_field_as_usual(&spec.layer));
    // Fewer fields than before that are not as in gpt-oss, so that the search ends.
    layers.retain(|other| distance(other) < distance(&spec.layer));
    layers
}

fn with_one_field_as_usual(layer: &LayerSpec) -> impl Iterator<Item = LayerSpec> {
    FIELDS.iter().map(|set| {
        let mut simpler = *layer;
        set(&mut simpler, &LayerSpec::default());
        simpler
    })
}

/// The number of fields that are not as in gpt-oss.
fn distance(layer: &LayerSpec) -> usize {
    with_one_field_as_usual(layer)
        .filter(|simpler| simpler != layer)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::stage::Stage;
    use crate::case::{Against, OrderProfile};
    use crate::engine::{Fault, MachineError};
    use crate::judge::Mismatch;

    fn shrunk(sizes: &str, fails: impl Fn(&CaseSpec) -> bool) -> CaseSpec {
        let spec: CaseSpec = format!(
            "element = 'f32'\nbatch = 2\n{sizes}\nexperts = 4\ntop_k = 2\nalpha = 1.702\nlimit = 7.0\nseed = 1\n\
             routing = 'all-to-last'\nvalues = 'clamping'\nweights = 'negative'"
        )
        .parse()
        .unwrap();
        assert!(fails(&spec));
        let verdict = || Verdict::Fault(Fault::refused("it fails"));
        shrink(&spec, verdict(), &Domain::default(), 2000, |candidate| {
            fails(candidate).then(verdict)
        })
        .spec
    }

    #[test]
    fn the_search_ends_with_its_budget_and_where_it_is_no_use() {
        let spec: CaseSpec = "element = 'f32'\nbatch = 2\nsequence = 40\nhidden = 9\nintermediate = 7\nexperts = 4\n\
             top_k = 2\ncapacity = 9\nalpha = 1.702\nlimit = 7.0\nseed = 1\nrouting = 'uniform'\n\
             values = 'gentle'\nweights = 'normalised'"
            .parse()
            .unwrap();
        let fault = || Verdict::Fault(Fault::refused("it fails"));
        let of_budget = |tries| shrink(&spec, fault(), &Domain::default(), tries, |_| Some(fault()));
        assert_eq!((of_budget(3).tries, of_budget(3).is_smallest), (3, false));
        assert!(of_budget(2000).is_smallest);
        let late = || {
            Verdict::Fault(Fault::TimedOut {
                seconds: 1.0,
                stderr: String::new(),
            })
        };
        let mut asked = 0;
        let shrunk = shrink(&spec, fault(), &Domain::default(), 2000, |_| {
            asked += 1;
            Some(late())
        });
        assert_eq!((asked, shrunk.is_smallest), (MAX_TIME_OUTS, false));
        let mut asked = 0;
        shrink(&spec, fault(), &Domain::default(), 2000, |_| {
            asked += 1;
            Some(Verdict::NotJudged(MachineError::Interrupted))
        });
        assert_eq!(asked, 1);
    }

    #[test]
    fn sizes_that_do_not_matter_are_reduced_to_the_least() {
        let spec = shrunk("sequence = 40\nhidden = 9\nintermediate = 7\ncapacity = 20", |spec| {
            spec.tokens() >= 3
        });
        let sizes = (spec.tokens(), spec.hidden, spec.intermediate, spec.experts, spec.top_k);
        assert_eq!((sizes, spec.capacity), ((3, 1, 1, 1, 1), 0));
    }

    #[test]
    fn an_order_stays_only_where_it_matters() {
        let sizes = "sequence = 40\nhidden = 1\nintermediate = 1\ncapacity = 20\norder = 'ties-shuffled'";
        assert_eq!(shrunk(sizes, |spec| spec.tokens() >= 3).order, None);
        let spec = shrunk(sizes, |spec| spec.order.is_some());
        assert_eq!((spec.tokens(), spec.order), (0, Some(OrderProfile::TiesShuffled)));
    }

    #[test]
    fn a_second_special_value_stays_only_where_it_matters() {
        let sizes = "sequence = 4\nhidden = 1\nintermediate = 1\ncapacity = 8\nspecial = 'inf-in-expert'\n\
                     against = 'opposite'";
        assert_eq!(shrunk(sizes, |spec| spec.special.is_some()).against, None);
        let opposite = |spec: &CaseSpec| spec.against == Some(Against::Opposite);
        assert!(shrunk(sizes, opposite).special.is_some());
    }

    #[test]
    fn tokens_are_reduced_with_the_capacity() {
        let one_over = |spec: &CaseSpec| spec.capacity + 1 == spec.tokens() * spec.top_k && spec.tokens() >= 2;
        let spec = shrunk("sequence = 40\nhidden = 1\nintermediate = 1\ncapacity = 159", one_over);
        assert_eq!((spec.tokens(), spec.top_k, spec.capacity), (2, 2, 3));
    }

    #[test]
    fn hidden_is_reduced_with_intermediate() {
        let square = |spec: &CaseSpec| spec.hidden == spec.intermediate && spec.hidden >= 3;
        let spec = shrunk("sequence = 4\nhidden = 64\nintermediate = 64\ncapacity = 8", square);
        assert_eq!((spec.hidden, spec.intermediate), (3, 3));
    }

    const SPEC: &str = "element = 'f32'\nbatch = 1\nsequence = 40\nhidden = 128\nintermediate = 64\nexperts = 9\n\
        top_k = 3\ncapacity = 120\nalpha = 1.702\nlimit = 7.0\nseed = 1\nrouting = 'distinct'\nvalues = 'gentle'\n\
        weights = 'normalised'";

    /// An engine that is wrong for three tokens or more, and refuses to run without any.
    #[test]
    fn a_wrong_result_never_becomes_a_refusal() {
        let wrong = || {
            Verdict::Disagree(Box::new(Mismatch::Shape {
                stage: Stage::Output,
                expected: vec![1],
                found: vec![2],
            }))
        };
        let refused = || Verdict::Fault(Fault::refused("T = 0"));
        let judge = |candidate: &CaseSpec| match candidate.tokens() {
            0 => Some(refused()),
            1 | 2 => None,
            _ => Some(wrong()),
        };
        let smallest = |verdict| shrink(&SPEC.parse().unwrap(), verdict, &Domain::default(), 2000, judge);
        let shrunk = smallest(wrong());
        assert_eq!((shrunk.spec.tokens(), shrunk.verdict), (3, wrong()));
    }

    #[test]
    fn every_step_stays_inside_the_domain() {
        let domain: Domain = "tokens = { min = 2 }\nhidden = { multiple_of = 32 }\nexperts = { one_of = [9, 5, 3] }\n\
            top_k = { min = 2 }\ndrops = false\nduplicates = false\nlimit = [7.0]"
            .parse()
            .unwrap();
        let verdict = || Verdict::Fault(Fault::refused("it fails"));
        let mut asked = 0;
        let shrunk = shrink(&SPEC.parse().unwrap(), verdict(), &domain, 2000, |candidate| {
            asked += 1;
            assert_eq!(domain.admits(candidate), Ok(()), "{candidate}");
            Some(verdict())
        });
        let spec = shrunk.spec;
        let sizes = [
            spec.tokens(),
            spec.hidden,
            spec.intermediate,
            spec.experts,
            spec.top_k,
            spec.capacity,
        ];
        assert_eq!(sizes, [2, 32, 1, 3, 2, 2]);
        assert!(asked > 10 && shrunk.is_smallest, "{asked}");
    }
}
