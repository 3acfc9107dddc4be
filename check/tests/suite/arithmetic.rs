//! A kernel in f32 whose every rounding, and every constant, can be chosen: honest ones of each precision, and ones that
//! are wrong by less than any bound.

use std::iter;

use binned_experts_check::engine::{Engine, Fault, Outcome};
use binned_experts_check::oracle::Inputs;
use binned_experts_check::{AnyProblem, Domain, ElementType, Precision, Tensor};
use ndarray::{Array2, Array3, ArrayView1, Axis};

use crate::common::{Order, bf16, tf32};

/// How a kernel computes. All functions round, or change a value a little.
#[derive(Clone, Copy)]
pub(crate) struct Arithmetic {
    pub(crate) name: &'static str,
    pub(crate) precision: Precision,
    pub(crate) element: ElementType,
    /// Both operands of each product.
    pub(crate) operand: fn(f32) -> f32,
    pub(crate) order: Order,
    /// The result of each operation but the sums, where it is stored.
    pub(crate) store: fn(f32) -> f32,
    pub(crate) exp: fn(f32) -> f32,
    pub(crate) sigmoid: fn(f32) -> f32,
    pub(crate) activation: fn(f32) -> f32,
    pub(crate) output: fn(f32) -> f32,
    /// Whether the activation is (up + 1) · gate / (1 + e^-z) in place of (up + 1) · (gate · sigmoid).
    pub(crate) is_quotient: bool,
    /// Whether a sum begins with its bias.
    pub(crate) bias_first: bool,
    /// Factors on alpha, limit, the biases and the routing weights.
    pub(crate) alpha: f64,
    pub(crate) limit: f64,
    pub(crate) biases: f32,
    pub(crate) weights: f32,
}

fn same(value: f32) -> f32 {
    value
}

/// IEEE binary16, to nearest.
pub(crate) fn f16(value: f32) -> f32 {
    half::f16::from_f32(value).to_f32()
}

/// Keeps the leading `bits` of 24 significant bits and drops the others.
pub(crate) fn cut_to_bits(value: f32, bits: u32) -> f32 {
    if value.is_finite() {
        f32::from_bits(value.to_bits() >> (24 - bits) << (24 - bits))
    } else {
        value
    }
}

pub(crate) fn cut_to_tf32(value: f32) -> f32 {
    cut_to_bits(value, 11)
}

/// An exponential by a power of two, wrong by up to 2 ulp, as fast hardware computes it.
pub(crate) fn fast_exp(value: f32) -> f32 {
    let exact = (value * std::f32::consts::LOG2_E).exp2();
    if !exact.is_normal() {
        return exact;
    }
    let noise = value.to_bits().wrapping_mul(0x9e37_79b1) >> 16;
    f32::from_bits(exact.to_bits() + noise % 5 - 2)
}

impl Arithmetic {
    pub(crate) const FP32: Arithmetic = Arithmetic {
        name: "forward",
        precision: Precision::FP32,
        element: ElementType::F32,
        operand: same,
        order: Order::Forward,
        store: same,
        exp: f32::exp,
        sigmoid: same,
        activation: same,
        output: same,
        is_quotient: false,
        bias_first: false,
        alpha: 1.0,
        limit: 1.0,
        biases: 1.0,
        weights: 1.0,
    };
    pub(crate) const TF32: Arithmetic = Arithmetic {
        precision: Precision::TF32,
        operand: tf32,
        ..Arithmetic::FP32
    };
    /// Stores the activations and the output alone.
    pub(crate) const BF16: Arithmetic = Arithmetic {
        precision: Precision::BF16,
        element: ElementType::Bf16,
        activation: bf16,
        output: bf16,
        ..Arithmetic::FP32
    };
    pub(crate) const F16: Arithmetic = Arithmetic {
        precision: Precision::F16,
        element: ElementType::F16,
        activation: f16,
        output: f16,
        ..Arithmetic::FP32
    };

    /// Honest kernels of every precision.
    pub(crate) fn honest() -> Vec<Arithmetic> {
        let fp32 = [
            ("backward", Order::Backward),
            ("pairwise", Order::Pairwise),
            ("blocked", Order::Blocked),
            ("lanes", Order::Lanes),
        ];
        let orders = fp32.map(|(name, order)| Arithmetic {
            name,
            order,
            ..Arithmetic::FP32
        });
        let per_operation =
            [(Arithmetic::BF16, bf16 as fn(f32) -> f32), (Arithmetic::F16, f16)].map(|(base, store)| Arithmetic {
                name: "per operation",
                store,
                ..base
            });
        let bases = [Arithmetic::FP32, Arithmetic::TF32, Arithmetic::BF16, Arithmetic::F16];
        let cut_tf32 = Arithmetic {
            name: "cut operands",
            operand: cut_to_tf32,
            ..Arithmetic::TF32
        };
        let tiles = bases.map(|base| Arithmetic {
            name: "tensor cores",
            // Cut sums drift, which is more than f32 over a long depth.
            order: match base.precision {
                Precision::FP32 => Order::PromotedTiles,
                _ => Order::Tiles,
            },
            ..base
        });
        let cut_tiles = Arithmetic {
            name: "tensor cores, cut operands",
            order: Order::Tiles,
            ..cut_tf32
        };
        let fast = bases.into_iter().chain(per_operation).map(|base| Arithmetic {
            name: if base.name == "per operation" {
                "per operation, fast exponential"
            } else {
                "fast exponential"
            },
            exp: fast_exp,
            ..base
        });
        let converting = Arithmetic {
            name: "on f32",
            element: ElementType::F32,
            operand: bf16,
            activation: same,
            output: same,
            ..Arithmetic::BF16
        };
        let forms = bases.into_iter().flat_map(|base| {
            let quotient = Arithmetic {
                name: "quotient",
                is_quotient: true,
                ..base
            };
            let bias_first = Arithmetic {
                name: "bias first",
                bias_first: true,
                ..base
            };
            [quotient, bias_first]
        });
        let single = [cut_tf32, cut_tiles, converting];
        (orders.into_iter().chain(bases).chain(tiles))
            .chain(fast)
            .chain(forms)
            .chain(per_operation)
            .chain(single)
            .collect()
    }

    /// The columns of each expert's matrix as rows, rounded.
    fn columns(&self, matrices: &Array3<f64>) -> Array3<f32> {
        let columns = matrices.view().permuted_axes([0, 2, 1]);
        columns.as_standard_layout().mapv(|value| (self.operand)(value as f32))
    }

    /// x · matrix + bias, the columns of the matrix as rows.
    fn affine(&self, x: &[f32], columns: &Array3<f32>, biases: ArrayView1<f64>, expert: usize) -> Vec<f32> {
        let columns = columns.index_axis(Axis(0), expert);
        let dot = |(column, bias): (ArrayView1<f32>, &f64)| {
            let products = x.iter().zip(column).map(|(x, weight)| x * weight);
            let bias = *bias as f32 * self.biases;
            if self.bias_first {
                let terms: Vec<f32> = iter::once(bias).chain(products).collect();
                return (self.store)(self.order.sum(&terms));
            }
            (self.store)((self.store)(self.order.sum(&products.collect::<Vec<f32>>())) + bias)
        };
        columns.rows().into_iter().zip(biases).map(dot).collect()
    }

    fn activate(&self, gate: f32, up: f32, alpha: f32, limit: f32) -> f32 {
        let store = self.store;
        let gate = if gate > limit { limit } else { gate };
        let up = if up > limit { limit } else { up };
        let up = if up < -limit { -limit } else { up };
        let inverse = 1.0 + (self.exp)(-store(alpha * gate));
        let glu = match self.is_quotient {
            true => gate / inverse,
            false => gate * store((self.sigmoid)(1.0 / inverse)),
        };
        let activated = store(store(up + 1.0) * store(glu));
        (self.operand)((self.activation)(activated))
    }

    /// `[T,H]`.
    fn rows(&self, inputs: &Inputs) -> Array2<f32> {
        let dims = inputs.dims;
        let alpha = (inputs.activation.alpha * self.alpha) as f32;
        let limit = (self.store)((inputs.activation.limit * self.limit) as f32);
        let gate_up_proj = self.columns(&inputs.gate_up_proj);
        let down_proj = self.columns(&inputs.down_proj);
        let mut taken = vec![0; dims.experts];
        let mut output = Array2::zeros((dims.tokens, dims.hidden));
        for flat in 0..dims.tokens * dims.top_k {
            let (token, _, expert) = inputs.assignment(flat);
            taken[expert] += 1;
            if taken[expert] > dims.capacity {
                continue;
            }
            let x = inputs.hidden_states.row(token);
            let x: Vec<f32> = x.iter().map(|x| (self.operand)(*x as f32)).collect();
            let gate_up = self.affine(&x, &gate_up_proj, inputs.gate_up_proj_bias.row(expert), expert);
            let pairs = gate_up.chunks(2);
            let activated: Vec<f32> = pairs
                .map(|pair| self.activate(pair[0], pair[1], alpha, limit))
                .collect();
            let weight = inputs.selected_weight(flat) as f32 * self.weights;
            let values = self.affine(&activated, &down_proj, inputs.down_proj_bias.row(expert), expert);
            for (sum, value) in output.row_mut(token).iter_mut().zip(values) {
                *sum += (self.store)(value * weight);
            }
        }
        output.mapv(self.output)
    }
}

impl Engine for Arithmetic {
    fn name(&self) -> &str {
        self.name
    }

    fn domain(&self) -> Domain {
        Domain {
            deterministic: Some(true),
            ..Domain::in_stable_order()
        }
    }

    fn precision(&self, element: ElementType) -> Option<Precision> {
        (element == self.element).then_some(self.precision)
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        let rows = self.rows(&Inputs::new(problem)).mapv(f64::from);
        let shape = problem.output_shape();
        let output = rows.into_shape_with_order(shape).map_err(Fault::refused)?;
        Ok(Outcome::output(Tensor::from_f64(output, self.element)))
    }
}
