//! Routing weights, biases and outputs of f32 beside bf16 and f16: honest kernels agree however they round the rows, and
//! one that rounds to the element type what is not of it is found.

use binned_experts_check::engine::{Engine, Fault, Outcome};
use binned_experts_check::{AnyProblem, CaseElement, CheckPlan, Domain, Precision, Selection, Summary, check_engine};
use binned_experts_reference::{Error, ExpertWeights, Problem, TensorType, activate, binned_gather, gate_up};
use ndarray::{Array2, Array3};

/// What is rounded to the element type between the second product and the sum over the slots.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Rows {
    /// The product, and its sum with the bias, as PyTorch does.
    Stored,
    /// The sum times its routing weight, in place of the row.
    Weighted,
    /// All of these.
    Each,
}

/// What a kernel rounds to the element type although it is wide.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Narrowed {
    Nothing,
    Weights,
    Biases,
    Output,
}

/// A kernel that takes the first product and the activation from the reference.
#[derive(Debug, Clone, Copy)]
struct Kernel {
    precision: Precision,
    rows: Rows,
    narrowed: Narrowed,
}

impl Kernel {
    fn output<T: CaseElement>(&self, problem: &Problem<T>) -> Result<Array3<T::Wide>, Error> {
        let (dims, bins, layer) = (problem.dims(), problem.bins(), problem.layer());
        let hidden = problem.hidden_states().clone();
        let hidden = hidden.into_shape_with_order((dims.tokens, dims.hidden)).unwrap();
        let weights = self.weights(problem)?;
        let x = binned_gather(hidden.view(), bins, dims.capacity, dims.top_k)?;
        let x = activate(&gate_up(&x, &weights)?, layer.activation, problem.activation())?;
        let zero = T::ZERO.widen();
        let mut slots = Array2::from_elem((dims.tokens * dims.top_k, dims.hidden), zero);
        for expert in 0..dims.experts {
            let rows = x.expert(expert);
            for (row, &flat) in rows.rows().into_iter().zip(bins.kept(expert, dims.capacity)) {
                let weight = self.weight(problem, flat, expert);
                for column in 0..dims.hidden {
                    let terms = row.iter().zip(
                        weights
                            .down_proj()
                            .index_axis(ndarray::Axis(0), expert)
                            .column(column)
                            .to_vec(),
                    );
                    let sum = terms.fold(zero, |sum, (a, d)| sum + a.widen() * d.widen());
                    slots[[flat, column]] = self.slot::<T>(sum, weights.down_proj_bias()[[expert, column]], weight);
                }
            }
        }
        let mut output = Array2::from_elem((dims.tokens, dims.hidden), zero);
        for (flat, row) in slots.rows().into_iter().enumerate() {
            let mut sums = output.row_mut(flat / dims.top_k);
            sums.zip_mut_with(&row, |sum, value| *sum = *sum + *value);
        }
        let is_narrow = layer.output_type == TensorType::Element || self.narrowed == Narrowed::Output;
        if is_narrow {
            output.mapv_inplace(|sum| T::narrow(sum).widen());
        }
        Ok(output.into_shape_with_order(problem.hidden_states().raw_dim()).unwrap())
    }

    fn slot<T: CaseElement>(&self, sum: T::Wide, bias: T::Wide, weight: T::Wide) -> T::Wide {
        let stored = |value: T::Wide| T::narrow(value).widen();
        match self.rows {
            Rows::Stored => stored(stored(sum) + bias) * weight,
            Rows::Weighted => stored((sum + bias) * weight),
            Rows::Each => stored(stored(stored(sum) + bias) * weight),
        }
    }

    fn weight<T: CaseElement>(&self, problem: &Problem<T>, flat: usize, expert: usize) -> T::Wide {
        let (token, sequence) = (flat / problem.dims().top_k, problem.hidden_states().dim().1);
        let weight = problem.routing_weights()[[token / sequence, token % sequence, expert]];
        if self.narrowed == Narrowed::Weights {
            T::narrow(weight).widen()
        } else {
            weight
        }
    }

    fn weights<T: CaseElement>(&self, problem: &Problem<T>) -> Result<ExpertWeights<T>, Error> {
        let weights = problem.weights();
        if self.narrowed != Narrowed::Biases {
            return Ok((**weights).clone());
        }
        let narrow = |bias: &Array2<T::Wide>| bias.mapv(|bias| T::narrow(bias).widen());
        ExpertWeights::new(
            weights.gate_up_proj().clone(),
            narrow(weights.gate_up_proj_bias()),
            weights.down_proj().clone(),
            narrow(weights.down_proj_bias()),
        )
    }

    fn outcome<T: CaseElement>(&self, problem: &Problem<T>) -> Result<Outcome, Fault> {
        let output = self.output(problem).map_err(Fault::refused)?;
        Ok(Outcome::output(T::narrowed(output, problem.layer().output_type)))
    }
}

impl Engine for Kernel {
    fn name(&self) -> &str {
        "kernel"
    }

    fn domain(&self) -> Domain {
        Domain {
            layers: Some(binned_experts_check::domain::Taken::Any),
            ..Domain::of(self.precision)
        }
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        match problem {
            AnyProblem::Bf16(problem) => self.outcome(problem),
            AnyProblem::F16(problem) => self.outcome(problem),
            AnyProblem::F32(problem) => self.outcome(problem),
            AnyProblem::F64(problem) => self.outcome(problem),
        }
    }
}

fn run(kernel: &mut Kernel, layer: &str, cases: usize) -> Summary {
    let plan = CheckPlan {
        cases,
        selection: Selection {
            domain: format!("layers = [{layer}]").parse().unwrap(),
            elements: vec![kernel.precision.element()],
            work: 1 << 17,
            ..Selection::default()
        },
        shrink_budget: 0,
        ..CheckPlan::default()
    };
    check_engine(kernel, &plan)
}

const LAYERS: [&str; 4] = [
    "{ routing_weight_type = 'wide' }",
    "{ bias_type = 'wide' }",
    "{ output_type = 'wide' }",
    "{ bias_type = 'wide', routing_weight_type = 'wide', output_type = 'wide' }",
];

#[test]
#[ignore = "explore"]
fn explore() {
    for claim in ["bf16", "f16"] {
        for rows in [Rows::Stored, Rows::Weighted, Rows::Each] {
            for narrowed in [Narrowed::Nothing, Narrowed::Weights, Narrowed::Biases, Narrowed::Output] {
                for layer in LAYERS {
                    let mut kernel = Kernel {
                        precision: claim.parse().unwrap(),
                        rows,
                        narrowed,
                    };
                    let s = run(&mut kernel, layer, 400);
                    let t = &s.engines[0];
                    println!(
                        "{claim} {rows:?} {narrowed:?} {layer}: {} of {} {} biased {}",
                        t.disagree,
                        t.agree,
                        t.fault,
                        t.is_biased()
                    );
                    if t.is_biased() {
                        println!("{:?}", t.sums[0].estimates()[0]);
                    }
                }
            }
        }
    }
}
