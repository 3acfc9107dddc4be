//! What the tests share: the cases of a profile, and engines, right ones that round in different ways and wrong ones.
#![allow(dead_code, reason = "each test file uses a part of it")]

use binned_experts_check::case::Profile;
use binned_experts_check::engine::{Engine, Fault, Outcome};
use binned_experts_check::oracle::Expected;
use binned_experts_check::oracle::Inputs;
use binned_experts_check::{AnyProblem, CaseSpec, Domain, ElementType, Precision, Selection, Tensor};
use binned_experts_reference::Problem;
use ndarray::{Array2, Array3, ArrayView1, Axis, s};

/// Cases drawn for each profile.
const CASES: u64 = 60;

/// The share of a profile's cases, in percent, for which `holds` is true.
pub(crate) fn share(profile: Profile, holds: impl Fn(&CaseSpec, &Expected) -> bool) -> u64 {
    let selection = Selection::default().with_profiles([profile]);
    let kept = (0..CASES).filter(|seed| {
        let spec = CaseSpec::from_seed(*seed, &selection);
        holds(&spec, &expected(&spec))
    });
    kept.count() as u64 * 100 / CASES
}

/// Cases of a domain.
pub(crate) fn selection(domain: &str) -> Selection {
    Selection {
        domain: domain.parse().unwrap(),
        ..Selection::default()
    }
}

/// What is right in a case.
pub(crate) fn expected(spec: &CaseSpec) -> Expected {
    let problem = spec.build().unwrap();
    Expected::new(Inputs::new(&problem), problem.output_shape(), problem.element())
}

/// The order in which a sum adds its terms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Order {
    Forward,
    Backward,
    Pairwise,
    /// Sums of 32, added up.
    Blocked,
    /// A sum that is rounded to bf16 after every 128 terms.
    RenewedInBf16,
    /// As tensor cores add: exact sums of 8, each added and cut.
    Tiles,
    /// The same, with the sums of 256 added up in f32.
    PromotedTiles,
    /// As a warp adds: 32 lanes, each the terms of its own, then in pairs.
    Lanes,
}

impl Order {
    pub(crate) fn sum(self, terms: &[f32]) -> f32 {
        match self {
            Order::Forward => terms.iter().fold(0.0, |sum, term| sum + term),
            Order::Backward => terms.iter().rev().fold(0.0, |sum, term| sum + term),
            Order::Blocked => terms.chunks(32).map(|block| block.iter().sum::<f32>()).sum(),
            Order::RenewedInBf16 => {
                let add = |sum: f32, block: &[f32]| bf16(block.iter().fold(sum, |sum, term| sum + term));
                terms.chunks(128).fold(0.0, add)
            }
            Order::Pairwise => match terms.len() {
                0 => 0.0,
                1 => terms[0],
                n => self.sum(&terms[..n / 2]) + self.sum(&terms[n / 2..]),
            },
            Order::Lanes => {
                let lane = |lane| terms.iter().skip(lane).step_by(32).sum();
                Order::Pairwise.sum(&(0..32).map(lane).collect::<Vec<f32>>())
            }
            Order::PromotedTiles => terms.chunks(256).map(|part| Order::Tiles.sum(part)).sum(),
            Order::Tiles => terms.chunks(8).fold(0.0, |sum, tile| {
                cut_to_f32(f64::from(sum) + tile.iter().map(|term| f64::from(*term)).sum::<f64>())
            }),
        }
    }
}

/// The nearest f32 towards 0.
fn cut_to_f32(value: f64) -> f32 {
    let nearest = value as f32;
    match f64::from(nearest).abs() > value.abs() {
        true if nearest > 0.0 => nearest.next_down(),
        true => nearest.next_up(),
        false => nearest,
    }
}

/// A kernel in f32 loops: operands rounded by `operand`, sums in a given order.
#[derive(Clone, Copy)]
pub(crate) struct Loops {
    pub(crate) precision: Precision,
    pub(crate) operand: fn(f32) -> f32,
    pub(crate) order: Order,
}

impl Loops {
    pub(crate) const FP32: Loops = Loops {
        precision: Precision::FP32,
        operand: |value| value,
        order: Order::Forward,
    };

    /// Of operands that are rounded already.
    fn dot(&self, x: &[f32], weights: ArrayView1<f32>) -> f32 {
        let terms: Vec<f32> = x.iter().zip(weights).map(|(x, weight)| x * weight).collect();
        self.order.sum(&terms)
    }

    /// The columns of each expert's matrix as rows, rounded.
    fn columns(&self, matrices: &Array3<f32>) -> Array3<f32> {
        let columns = matrices.view().permuted_axes([0, 2, 1]);
        columns.as_standard_layout().mapv(self.operand)
    }

    pub(crate) fn output(&self, problem: &Problem<f32>) -> Array3<f32> {
        let dims = problem.dims();
        let (alpha, limit) = (problem.activation().alpha as f32, problem.activation().limit as f32);
        let weights = problem.weights();
        let gate_up_proj = self.columns(weights.gate_up_proj());
        let down_proj = self.columns(weights.down_proj());
        let mut taken = vec![0; dims.experts];
        let mut output = Array3::zeros(problem.hidden_states().raw_dim());
        let (_, sequence, _) = problem.hidden_states().dim();
        for ((token, _), &expert) in problem.router_indices().indexed_iter() {
            let expert = expert as usize;
            taken[expert] += 1;
            if taken[expert] > dims.capacity {
                continue;
            }
            let at = (token / sequence, token % sequence);
            let x = problem.hidden_states().slice(s![at.0, at.1, ..]);
            let x: Vec<f32> = x.iter().map(|x| (self.operand)(*x)).collect();
            let columns = gate_up_proj.index_axis(Axis(0), expert);
            let biases = weights.gate_up_proj_bias().row(expert);
            let gate_up: Vec<f32> = columns
                .rows()
                .into_iter()
                .zip(biases)
                .map(|(column, bias)| self.dot(&x, column) + bias)
                .collect();
            let activated: Vec<f32> = gate_up
                .chunks(2)
                .map(|pair| {
                    let gate = if pair[0] > limit { limit } else { pair[0] };
                    let up = if pair[1] > limit { limit } else { pair[1] };
                    let up = if up < -limit { -limit } else { up };
                    (self.operand)((up + 1.0) * (gate / (1.0 + (-alpha * gate).exp())))
                })
                .collect();
            let weight = problem.routing_weights()[[at.0, at.1, expert]];
            let columns = down_proj.index_axis(Axis(0), expert);
            let biases = weights.down_proj_bias().row(expert);
            let mut row = output.slice_mut(s![at.0, at.1, ..]);
            for ((column, bias), sum) in columns.rows().into_iter().zip(biases).zip(&mut row) {
                *sum += (self.dot(&activated, column) + bias) * weight;
            }
        }
        output
    }
}

impl Engine for Loops {
    fn name(&self) -> &str {
        "loops"
    }

    fn domain(&self) -> Domain {
        Domain {
            deterministic: Some(true),
            ..Domain::in_stable_order()
        }
    }

    fn precision(&self, element: ElementType) -> Option<Precision> {
        (element == ElementType::F32).then_some(self.precision)
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        match problem {
            AnyProblem::F32(problem) => Ok(Outcome::output(self.output(problem))),
            _ => Err(Fault::refused("f32 only")),
        }
    }
}

/// Keeps the leading `bits` of 24 significant bits, rounding to nearest even; NaN and infinities stay.
pub(crate) fn round_to_bits(value: f32, bits: u32) -> f32 {
    if !value.is_finite() {
        return value;
    }
    let shift = 24 - bits;
    let raw = value.to_bits();
    let half = (1u32 << (shift - 1)) - 1 + (raw >> shift & 1);
    f32::from_bits((raw + half) >> shift << shift)
}

pub(crate) fn tf32(value: f32) -> f32 {
    round_to_bits(value, 11)
}

/// Cuts to TF32, as a tensor core does with f32.
pub(crate) fn cut_to_tf32(value: f32) -> f32 {
    if value.is_finite() {
        f32::from_bits(value.to_bits() >> 13 << 13)
    } else {
        value
    }
}

pub(crate) fn bf16(value: f32) -> f32 {
    round_to_bits(value, 8)
}

/// An engine that spoils the output of a right one.
pub(crate) struct Spoiled<F>(pub(crate) F);

impl<F: FnMut(&Problem<f32>, Array2<f32>) -> Array2<f32>> Engine for Spoiled<F> {
    fn name(&self) -> &str {
        "spoiled"
    }

    fn domain(&self) -> Domain {
        Domain::of(Precision::FP32)
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        let AnyProblem::F32(problem) = problem else {
            return Err(Fault::refused("f32 only"));
        };
        let trace = binned_experts_reference::binned_experts_ref(problem).map_err(Fault::refused)?;
        let shape = trace.output.raw_dim();
        let rows = trace
            .output
            .into_shape_with_order((problem.dims().tokens, problem.dims().hidden))
            .unwrap();
        let spoiled = (self.0)(problem, rows);
        Ok(Outcome::output(Tensor::from(
            spoiled.into_shape_with_order(shape).unwrap(),
        )))
    }
}
