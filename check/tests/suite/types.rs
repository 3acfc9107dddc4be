//! Routing weights, biases and outputs of f32 beside bf16 and f16: honest kernels agree however they round the rows, and
//! one that rounds to the element type what is not of it is found.

use binned_experts_check::check::EngineTotals;
use binned_experts_check::domain::Taken;
use binned_experts_check::engine::{DefinitionEngine, Engine, Fault, Outcome, Reference};
use binned_experts_check::oracle::sums::{Direction, Estimate};
use binned_experts_check::{
    AnyProblem, CaseElement, CheckPlan, Domain, ElementType, Precision, Selection, Summary, check_engine,
};
use binned_experts_reference::{Error, ExpertWeights, Problem, TensorType, activate, binned_gather, gate_up};
use ndarray::{Array2, Array3, Axis};

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
        let down = weights.down_proj();
        let x = binned_gather(hidden.view(), bins, dims.capacity, dims.top_k)?;
        let x = activate(&gate_up(&x, &weights)?, layer.activation, problem.activation())?;
        let zero = T::ZERO.widen();
        let mut slots = Array2::from_elem((dims.tokens * dims.top_k, dims.hidden), zero);
        for expert in 0..dims.experts {
            let rows = x.expert(expert);
            for (row, &flat) in rows.rows().into_iter().zip(bins.kept(expert, dims.capacity)) {
                let weight = self.weight(problem, flat, expert);
                for (column, matrix) in down.index_axis(Axis(0), expert).columns().into_iter().enumerate() {
                    let terms = row.iter().zip(matrix);
                    let sum = terms.fold(zero, |sum, (a, d)| sum + a.widen() * d.widen());
                    slots[[flat, column]] = self.slot::<T>(sum, weights.down_proj_bias()[[expert, column]], weight);
                }
            }
        }
        let mut output = Array2::from_elem((dims.tokens, dims.hidden), zero);
        for (flat, row) in slots.rows().into_iter().enumerate() {
            let mut sums = output.row_mut(flat / dims.top_k);
            sums.zip_mut_with(&row, |sum, value| *sum += *value);
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
            layers: Some(Taken::Any),
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

fn run(engine: &mut dyn Engine, element: ElementType, domain: &str, cases: usize) -> Summary {
    let plan = CheckPlan {
        cases,
        selection: Selection {
            domain: domain.parse().unwrap(),
            elements: vec![element],
            ..Selection::default()
        },
        shrink_budget: 0,
        ..CheckPlan::default()
    };
    check_engine(engine, &plan)
}

const ELEMENTS: [ElementType; 2] = [ElementType::F16, ElementType::Bf16];
const ROWS: [Rows; 3] = [Rows::Stored, Rows::Weighted, Rows::Each];
const LAYERS: &str = "layers = [
    'gpt-oss-f32-biases', 'mixtral-f32-weights', { output_type = 'wide' },
    { bias_type = 'wide', routing_weight_type = 'wide', output_type = 'wide' },
]
";
const SMALL: &str = "tokens = { max = 24 }\nhidden = { max = 32 }\nintermediate = { max = 32 }\n";

fn kernel(element: ElementType, rows: Rows, narrowed: Narrowed) -> Kernel {
    Kernel {
        precision: Precision::of(element),
        rows,
        narrowed,
    }
}

#[test]
fn honest_kernels_agree_however_they_round_rows() {
    for (element, rows) in ELEMENTS.iter().flat_map(|element| ROWS.map(|rows| (*element, rows))) {
        let mut honest = kernel(element, rows, Narrowed::Nothing);
        run(&mut honest, element, &format!("{LAYERS}{SMALL}"), 400).assert_agrees();
    }
}

/// Rounded routing weights and biases show in the sums, a rounded output where the right one is exact.
#[test]
fn what_is_rounded_to_the_element_type_is_found_in_200_cases() {
    let faults = [
        (Narrowed::Weights, "layers = ['mixtral-f32-weights']"),
        (Narrowed::Weights, "layers = [{ routing_weight_type = 'wide' }]"),
        (Narrowed::Biases, "layers = ['gpt-oss-f32-biases']"),
        (Narrowed::Output, "layers = [{ output_type = 'wide' }]"),
        (
            Narrowed::Output,
            "layers = [{ routing_weight_type = 'wide', output_type = 'wide' }]",
        ),
    ];
    for (element, rows) in ELEMENTS.iter().flat_map(|element| ROWS.map(|rows| (*element, rows))) {
        for (narrowed, layer) in faults {
            let summary = run(
                &mut kernel(element, rows, narrowed),
                element,
                &format!("{layer}\n{SMALL}"),
                200,
            );
            let totals = &summary.engines[0];
            assert!(
                summary.has_failures(),
                "{element} {rows:?} {narrowed:?} {layer}: {summary}"
            );
            let named = match narrowed {
                Narrowed::Weights => Some(Direction::WeightsNarrowed),
                Narrowed::Biases => Some(Direction::BiasesNarrowed),
                Narrowed::Nothing | Narrowed::Output => None,
            };
            if let Some(named) = named {
                let found = estimate(totals, named);
                assert!(
                    found.is_biased && (0.7..1.3).contains(&found.found),
                    "{element} {rows:?}: {found:?}"
                );
            }
        }
    }
}

fn estimate(totals: &EngineTotals, direction: Direction) -> Estimate {
    let estimates = totals.sums[0].estimates();
    *estimates
        .iter()
        .find(|estimate| estimate.direction == direction)
        .unwrap()
}

/// Prints what honest engines show where something is wide, as the table of honest engines has it:
/// `cargo test -p binned-experts-check --test suite types::honest -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes, and prints"]
fn honest_engines_are_not_biased_where_something_is_wide() {
    let domains = [
        SMALL,
        "tokens = { max = 32 }\nhidden = { multiple_of = 8, max = 64 }\nintermediate = { multiple_of = 8, max = 64 }",
        "tokens = { max = 32 }\nhidden = { multiple_of = 32, max = 128 }\nintermediate = { multiple_of = 32, max = 128 }",
    ];
    let layers = [
        "'gpt-oss-f32-biases'",
        "'mixtral-f32-weights'",
        "{ bias_type = 'wide', routing_weight_type = 'wide' }",
        "{ activation = 'gelu-tanh', bias_type = 'wide', routing_weight_type = 'wide', output_type = 'wide' }",
        "{ output_type = 'wide' }",
    ];
    for (element, layer) in ELEMENTS
        .iter()
        .flat_map(|element| layers.map(|layer| (*element, layer)))
    {
        for domain in domains {
            let domain = format!("layers = [{layer}]\n{domain}");
            let mut kernels = ROWS.map(|rows| kernel(element, rows, Narrowed::Nothing));
            let (mut reference, mut definition) = (Reference, DefinitionEngine);
            let mut engines: Vec<&mut dyn Engine> = vec![&mut reference, &mut definition];
            engines.extend(kernels.iter_mut().map(|kernel| kernel as &mut dyn Engine));
            for engine in engines {
                let summary = run(engine, element, &domain, 1000);
                let totals = &summary.engines[0];
                println!(
                    "{element} {layer} {}: share {:.3}, {:.3} of a bound",
                    totals.name,
                    totals.sums[0].share(),
                    totals.used
                );
                for estimate in totals.sums[0].estimates() {
                    let Estimate {
                        direction,
                        found,
                        deviations,
                        ..
                    } = estimate;
                    let sum = &totals.sums[0].along[direction as usize];
                    let spread = (sum.squares / sum.denominator).sqrt();
                    if direction.to_string().ends_with("narrowed") || deviations > 0.0 {
                        println!(
                            "{element} {layer} {}: {direction} {found:+.3} spread {spread:.3}, {deviations:.1}",
                            totals.name
                        );
                    }
                }
                summary.assert_agrees();
            }
        }
    }
}
