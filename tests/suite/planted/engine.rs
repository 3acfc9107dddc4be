//! The engine with a bug: every step once, right but where the bug is.

use std::collections::HashMap;

use binned_experts_check::{CaseElement, Fault, Outcome, Stage};
use binned_experts_reference::Problem;
use ndarray::{Array1, Array2, Array3, ArrayViewMut1, Axis, Slice};

use super::bug::Bug;
use super::case::Case;
use super::experts::{Experts, to_bf16};
use super::routing::Routing;
use super::wrong::Wrong;

/// Only the output is shown, no stages, so that each bug has to be seen there.
pub(super) struct Planted {
    bug: Bug,
    runs: u64,
    /// The rows of all slots, from the run before.
    slots: Array2<f32>,
    /// Which of the kept results belongs to inputs.
    known: HashMap<u64, usize>,
    results: [Vec<f32>; 16],
}

impl Planted {
    pub(super) fn new(bug: Bug) -> Planted {
        Planted {
            bug,
            runs: 0,
            slots: Array2::zeros((0, 0)),
            known: HashMap::new(),
            results: Default::default(),
        }
    }
}

impl Wrong for Planted {
    fn run<T: CaseElement>(&mut self, problem: &Problem<T>) -> Result<Outcome, Fault> {
        let case = Case::new(problem);
        match self.bug {
            Bug::DividesByTokens if case.dims.tokens == 0 => return Err(Fault::refused("division by zero")),
            Bug::CapacityRefused if case.dims.capacity > 65_535 => {
                return Err(Fault::refused(format!(
                    "expected C <= 65535, found {}",
                    case.dims.capacity
                )));
            }
            Bug::StagesTooSmallFor8192 if case.dims.hidden >= 8192 => {
                return Err(Fault::refused(
                    "expected at least 2 stages in shared memory, found room for 1",
                ));
            }
            Bug::WidthOf512Assumed if case.dims.intermediate > 512 && !case.dims.intermediate.is_multiple_of(512) => {
                return Err(Fault::refused(format!(
                    "expected I to be a multiple of 512, found {}",
                    case.dims.intermediate
                )));
            }
            Bug::Top14Refused if case.dims.top_k == 14 => {
                return Err(Fault::refused("no kernel for K = 14"));
            }
            _ => {}
        }
        let mut routing = Routing::new(self.bug, &case, self.runs);
        let experts = Experts {
            bug: self.bug,
            case: &case,
        };
        self.slots = self.allocated(&case);
        for expert in 0..case.dims.experts {
            let kept = routing.kept(expert);
            if !kept.is_empty() {
                let of = match self.bug {
                    Bug::EmptyGroupCursor => routing.counts[..expert].iter().filter(|count| **count > 0).count(),
                    _ => expert,
                };
                let rows = experts.apply(of, &self.gathered(&case, &routing, &kept));
                for (assignment, row) in kept.into_iter().zip(rows.rows()) {
                    let stored = self.stored(&case, expert, row.to_owned(), routing.weights[assignment]);
                    self.slots.row_mut(assignment).assign(&stored);
                }
            }
        }
        let output = self.combined(&case, &routing, &experts);
        let output = match self.bug {
            Bug::OldestResultOverwritten => self.kept(&case, output),
            _ => output,
        };
        self.runs += 1;
        let narrow = |value: &f32| T::from_f64(f64::from(*value));
        let output: Vec<T> = output.iter().map(narrow).collect();
        let output = Array3::from_shape_vec(problem.hidden_states().dim(), output).map_err(Fault::refused)?;
        let outcome = Outcome::output(match self.bug {
            Bug::RowsKept if case.dims.capacity == 0 => output.slice_axis(Axis(1), Slice::from(..0)).to_owned(),
            _ => output,
        });
        Ok(match self.bug {
            Bug::ExclusiveBins => {
                let starts = routing.ends.iter().zip(&routing.counts).map(|(end, count)| end - count);
                Outcome {
                    stages: outcome.stages.with(Stage::Bins, starts.collect::<Vec<_>>()),
                    ..outcome
                }
            }
            _ => outcome,
        })
    }
}

impl Planted {
    /// Slots to be written, `[T·K,H]`.
    fn allocated(&self, case: &Case) -> Array2<f32> {
        let shape = (case.ids.len(), case.dims.hidden);
        match self.bug {
            Bug::SlotsUnset => Array2::from_elem(shape, f32::NAN),
            Bug::StaleSlots => {
                let mut slots = Array2::zeros(shape);
                slots
                    .iter_mut()
                    .zip(&self.slots)
                    .for_each(|(slot, stale)| *slot = *stale);
                slots
            }
            _ => Array2::zeros(shape),
        }
    }

    /// The rows of the kept assignments' tokens.
    fn gathered(&self, case: &Case, routing: &Routing, kept: &[usize]) -> Array2<f32> {
        let (tokens, hidden, top_k) = (case.dims.tokens, case.dims.hidden, case.dims.top_k);
        let rows = |token: &dyn Fn(usize) -> usize| {
            let tokens: Vec<usize> = kept.iter().map(|assignment| token(*assignment)).collect();
            case.hidden_states.select(Axis(0), &tokens)
        };
        match self.bug {
            Bug::RowOffsetWraps => {
                let flat = case.hidden_states.flatten();
                let offset = |row: usize| kept[row] / top_k * hidden % (1 << 16);
                Array2::from_shape_fn((kept.len(), hidden), |(row, column)| flat[offset(row) + column])
            }
            Bug::EightSlots => rows(&|assignment| (assignment / 8).min(tokens - 1)),
            Bug::WeightOnInput => {
                let weights: Array1<f32> = kept.iter().map(|assignment| routing.weights[*assignment]).collect();
                rows(&|assignment| assignment / top_k) * weights.insert_axis(Axis(1))
            }
            _ => rows(&|assignment| assignment / top_k),
        }
    }

    /// The row of a slot.
    fn stored(&self, case: &Case, expert: usize, row: Array1<f32>, weight: f32) -> Array1<f32> {
        match self.bug {
            Bug::WeightOnInput => row,
            Bug::DownBiasUnweighted => row * weight + case.down_proj_bias.row(expert),
            _ => row * weight,
        }
    }

    /// The sum over the slots of each token, `[T,H]`.
    fn combined(&mut self, case: &Case, routing: &Routing, experts: &Experts) -> Array2<f32> {
        let (tokens, hidden, top_k) = (case.dims.tokens, case.dims.hidden, case.dims.top_k);
        let within_capacity = |expert: &usize| routing.counts[*expert] < case.dims.capacity;
        match self.bug {
            Bug::PaddingOnTokenZero if !case.ids.is_empty() => {
                for expert in (0..case.dims.experts).filter(within_capacity) {
                    let padding = experts.apply(expert, &Array2::zeros((1, hidden)));
                    self.slots
                        .row_mut(0)
                        .zip_mut_with(&padding.row(0), |slot, value| *slot += value);
                }
            }
            Bug::LastChunk if tokens > 64 => {
                let begin = (tokens - 1) / 64 * 64;
                let full = begin * top_k + tokens - begin;
                let lost = Slice::from(full.min(case.ids.len())..);
                self.slots.slice_axis_mut(Axis(0), lost).fill(0.0);
            }
            _ => {}
        }
        let mut output = Array2::zeros((tokens, hidden));
        for (token, row) in output.rows_mut().into_iter().enumerate() {
            let summed = match self.bug {
                Bug::TwentyTwoOf512 if (top_k, case.dims.experts) == (22, 512) => 16,
                _ => top_k,
            };
            self.add_slots(token * top_k..token * top_k + summed, row);
        }
        match self.bug {
            Bug::OtherExpertsTimesZero => {
                for expert in (0..case.dims.experts).filter(|expert| !experts.is_finite(*expert)) {
                    output += &(experts.apply(expert, &case.hidden_states) * 0.0);
                }
            }
            Bug::TailStoreOverhangs => {
                let overhang = (hidden.next_multiple_of(16) - hidden).min(hidden);
                for mut row in output.rows_mut().into_iter().skip(1).step_by(2) {
                    row.slice_axis_mut(Axis(0), Slice::from(..overhang)).fill(0.0);
                }
            }
            _ => {}
        }
        output
    }

    /// The result that is kept for the inputs; the new one where they are not known.
    fn kept(&mut self, case: &Case, output: Array2<f32>) -> Array2<f32> {
        let inputs = case.digest();
        if let Some(&at) = self.known.get(&inputs) {
            let kept = self.results[at].iter().chain(std::iter::repeat(&0.0));
            return Array2::from_shape_vec(output.dim(), kept.take(output.len()).copied().collect())
                .expect("as many values as the output has");
        }
        let at = self.known.len() % self.results.len();
        self.known.insert(inputs, at);
        self.results[at] = output.iter().copied().collect();
        output
    }

    fn add_slots(&self, slots: std::ops::Range<usize>, mut row: ArrayViewMut1<f32>) {
        let number = slots.len();
        for slot in slots {
            match self.bug {
                Bug::FewSlotsInBf16 if number <= 4 => {
                    row.zip_mut_with(&self.slots.row(slot), |sum, value| *sum = to_bf16(*sum + value));
                }
                Bug::CombinedInBf16 => {
                    row.zip_mut_with(&self.slots.row(slot), |sum, value| {
                        *sum = to_bf16(*sum + to_bf16(*value))
                    });
                }
                _ => row += &self.slots.row(slot),
            }
        }
    }
}
