//! The situations that a case exercises, so that a run can show that it exercised all of them.

use binned_experts_reference::Layer;
use ndarray::{Array, ArrayView1, Axis, Dimension};

use super::{Definition, Expected, Inputs, pairs};
use crate::case::{DEEP, power_of_two};

/// Values of a tensor that are this factor apart count as wide.
const WIDE: f64 = power_of_two(60);
/// Limits from here on count as high.
const HIGH_LIMIT: f64 = 1e4;

/// The situations of a case, out of those that kernels get wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Coverage {
    /// T = 0.
    pub no_tokens: bool,
    /// Some assignment is dropped.
    pub dropped: bool,
    /// A token has lost all of its assignments.
    pub token_dropped: bool,
    /// Some expert has no assignment.
    pub empty_expert: bool,
    /// One expert has every assignment, and there are others.
    pub one_expert: bool,
    /// A token names an expert twice.
    pub duplicates: bool,
    /// A gate is above the limit.
    pub gate_clamped: bool,
    /// A gate is below minus the limit, where it must not be clamped.
    pub gate_low: bool,
    /// An up value is above the limit.
    pub up_clamped_high: bool,
    /// An up value is below minus the limit.
    pub up_clamped_low: bool,
    /// An input is NaN or infinite.
    pub special_input: bool,
    /// An output is NaN or infinite.
    pub special_output: bool,
    /// More than 65,535 assignments.
    pub many_assignments: bool,
    /// More than 256 experts.
    pub many_experts: bool,
    /// The weights of a token's slots do not sum to one.
    pub weights_unnormalised: bool,
    /// Most sums of a product are below 1/32 of the root of their squared terms, in the first assignment that is kept.
    pub cancelling: bool,
    /// Two values of a tensor, neither of them 0, are a factor of 2^60 apart.
    pub wide_range: bool,
    /// An input is subnormal.
    pub subnormal_input: bool,
    /// The assignments of some expert are not in the order of their flat indices.
    pub ties_reordered: bool,
    /// The limit is 10,000 or more.
    pub high_limit: bool,
    /// H and I are 32 or more.
    pub deep: bool,
    /// A slot has an id that is of no local expert.
    pub foreign: bool,
    /// The layer is another than that of gpt-oss.
    pub other_layer: bool,
}

impl Coverage {
    /// Finds the situations in the inputs and in the definition's stages.
    pub fn new(expected: &Expected) -> Coverage {
        let (inputs, definition) = (expected.inputs(), expected.definition());
        let dims = inputs.dims;
        let assignments = dims.tokens * dims.top_k;
        let mut counts = vec![0; dims.experts];
        for &flat in &inputs.order {
            counts[inputs.assignment(flat).2] += 1;
        }
        let kind = inputs.layer.activation;
        let limit = if kind.has_limit() {
            inputs.activation.limit
        } else {
            f64::INFINITY
        };
        let kept = || (0..assignments).filter(|flat| definition.kept[*flat]);
        let rows = || {
            let of_shared = definition.shared.iter().flat_map(|shared| shared.gate_up.rows());
            kept().map(|flat| definition.gate_up.row(flat)).chain(of_shared)
        };
        let gate = |test: &dyn Fn(f64) -> bool| rows().any(|row| pairs(kind, row).any(|(gate, _)| test(gate)));
        let up = |test: &dyn Fn(f64) -> bool| rows().any(|row| pairs(kind, row).any(|(_, up)| test(up)));
        let token_weights = |token: usize| {
            (token * dims.top_k..(token + 1) * dims.top_k)
                .map(|flat| inputs.selected_weight(flat))
                .sum::<f64>()
        };
        let mut matrices = vec![Sizes::new(&inputs.hidden_states)];
        let mut others = vec![Sizes::new(&inputs.routing_weights)];
        for of in std::iter::once(inputs).chain(inputs.shared.as_deref()) {
            matrices.extend([Sizes::new(&of.gate_up_proj), Sizes::new(&of.down_proj)]);
            others.extend([Sizes::new(&of.gate_up_proj_bias), Sizes::new(&of.down_proj_bias)]);
        }
        let all = || matrices.iter().chain(&others);
        let normal = expected.element().smallest_normal();
        Coverage {
            no_tokens: dims.tokens == 0,
            dropped: inputs.order.iter().any(|flat| !definition.kept[*flat]),
            token_dropped: definition.kept.chunks(dims.top_k).any(|slots| !slots.contains(&true)),
            empty_expert: counts.contains(&0) && dims.tokens > 0,
            one_expert: dims.experts > 1 && assignments > 0 && counts.contains(&assignments),
            duplicates: inputs.router_indices.rows().into_iter().any(|row| {
                let local = |(_, expert): &(usize, &usize)| **expert < dims.experts;
                row.iter()
                    .enumerate()
                    .filter(local)
                    .any(|(slot, expert)| row.iter().skip(slot + 1).any(|other| other == expert))
            }),
            gate_clamped: gate(&|value| value > limit),
            gate_low: gate(&|value| value < -limit),
            up_clamped_high: up(&|value| value > limit),
            up_clamped_low: up(&|value| value < -limit),
            special_input: all().any(|sizes| sizes.special),
            special_output: Sizes::new(&definition.output).special,
            many_assignments: assignments > 65_535,
            many_experts: dims.experts > 256,
            weights_unnormalised: (0..dims.tokens).any(|token| (token_weights(token) - 1.0).abs() > 0.01),
            cancelling: kept().next().is_some_and(|flat| cancels(inputs, definition, flat)),
            wide_range: matrices.iter().any(|sizes| sizes.largest / sizes.least >= WIDE),
            subnormal_input: all().any(|sizes| sizes.least < normal),
            ties_reordered: reorders_ties(inputs),
            high_limit: kind.has_limit() && limit >= HIGH_LIMIT,
            foreign: inputs.order.len() < assignments,
            other_layer: inputs.layer != Layer::GPT_OSS,
            deep: dims.hidden.min(dims.intermediate) >= DEEP,
        }
    }

    /// No case in any situation.
    pub(crate) fn none() -> Vec<(&'static str, usize)> {
        Coverage::default().named().map(|(name, _)| (name, 0)).to_vec()
    }

    /// The situations with their names, in the order of a report.
    pub fn named(&self) -> [(&'static str, bool); 23] {
        [
            ("no tokens", self.no_tokens),
            ("dropped assignments", self.dropped),
            ("token wholly dropped", self.token_dropped),
            ("empty expert", self.empty_expert),
            ("all on one expert", self.one_expert),
            ("duplicates in a token", self.duplicates),
            ("gate above limit", self.gate_clamped),
            ("gate below -limit", self.gate_low),
            ("up above limit", self.up_clamped_high),
            ("up below -limit", self.up_clamped_low),
            ("NaN or inf in", self.special_input),
            ("NaN or inf out", self.special_output),
            ("over 65,535 assignments", self.many_assignments),
            ("over 256 experts", self.many_experts),
            ("weights not summing to 1", self.weights_unnormalised),
            ("terms that cancel", self.cancelling),
            ("values 2^60 apart", self.wide_range),
            ("subnormal values in", self.subnormal_input),
            ("ties in another order", self.ties_reordered),
            ("limit of 10,000 or more", self.high_limit),
            ("H and I of 32 or more", self.deep),
            ("ids of no local expert", self.foreign),
            ("another layer", self.other_layer),
        ]
    }
}

/// Magnitudes of a tensor's values other than 0, NaN and infinities; +∞ and 0 where there are none.
#[derive(Clone, Copy)]
struct Sizes {
    least: f64,
    largest: f64,
    /// Some value is NaN or infinite.
    special: bool,
}

impl Sizes {
    fn new<D: Dimension>(values: &Array<f64, D>) -> Sizes {
        let mut sizes = Sizes {
            least: f64::INFINITY,
            largest: 0.0,
            special: false,
        };
        for size in values.iter().map(|value| value.abs()) {
            if !size.is_finite() {
                sizes.special = true;
            } else if size > 0.0 {
                (sizes.least, sizes.largest) = (sizes.least.min(size), sizes.largest.max(size));
            }
        }
        sizes
    }
}

/// Whether some assignment comes after one with a higher flat index and the same expert.
fn reorders_ties(inputs: &Inputs) -> bool {
    let mut last = vec![0; inputs.dims.experts];
    inputs.order.iter().any(|&flat| {
        let (_, _, expert) = inputs.assignment(flat);
        flat < std::mem::replace(&mut last[expert], flat)
    })
}

/// Whether most sums of one of the products are small against their terms.
fn cancels(inputs: &Inputs, definition: &Definition, flat: usize) -> bool {
    let (_, _, expert) = inputs.assignment(flat);
    let input = inputs.expert_input(flat);
    let products = [
        (input.view(), &inputs.gate_up_proj),
        (definition.activated.row(flat), &inputs.down_proj),
    ];
    products.into_iter().any(|(x, matrices)| {
        let matrix = matrices.index_axis(Axis(0), expert);
        let small = |column: &ArrayView1<f64>| {
            let terms = || x.iter().zip(column).map(|(x, weight)| x * weight);
            let squares: f64 = terms().map(|term| term * term).sum();
            terms().sum::<f64>().abs() < squares.sqrt() / 32.0
        };
        2 * matrix.columns().into_iter().filter(small).count() > matrix.ncols()
    })
}
