//! An outcome of a case of which only some tokens are judged by the definition.
//!
//! The routing, the shapes and the element type are compared for all tokens. Every token of the output is compared with a
//! [`Screen`], and those that look worst are judged, besides tokens at the edges of batch, experts and tiles, and some by
//! chance. Which ones follows from the output: no kernel knows them before it has computed, and the same output is judged
//! at the same tokens again.

use ndarray::{Array2, ArrayD, Axis};

use super::chosen::{Choice, digest};
use super::compare::{compare, output_rows};
use super::tokens::compare_tokens;
use super::verdict::{Mismatch, Verdict};
use crate::case::stage::{Layout, Stage, StageValues, Stages};
use crate::case::{AnyProblem, Tensor};
use crate::engine::Outcome;
use crate::oracle::{Bounds, Expected, Roundings, Screen};

/// How many tokens of a case were judged by the definition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sampled {
    /// Tokens whose rows were compared within their bounds.
    pub judged: usize,
    /// T. Each of them was compared with a screen.
    pub tokens: usize,
}

/// A problem, and its routing as that of a problem whose H and I are 0.
pub(super) struct Large<'a> {
    pub(super) problem: &'a AnyProblem,
    pub(super) routing: &'a Expected,
    pub(super) bounds: &'a Bounds,
    pub(super) roundings: Roundings,
}

impl Large<'_> {
    /// The verdict, and on how many tokens it is.
    pub(super) fn compare(&self, outcome: &Outcome) -> (Verdict, Sampled) {
        let mut sampled = Sampled {
            judged: 0,
            tokens: self.problem.dims().tokens,
        };
        let verdict = self.verdict(outcome, &mut sampled);
        (verdict.unwrap_or_else(Verdict::Disagree), sampled)
    }

    fn verdict(&self, outcome: &Outcome, sampled: &mut Sampled) -> Result<Verdict, Box<Mismatch>> {
        if let wrong @ Verdict::Disagree(_) = compare(self.routing, self.bounds, &self.of_routing(outcome)) {
            return Ok(wrong);
        }
        self.expect_shapes(outcome)?;
        let output = output_rows(
            &outcome.output,
            &self.problem.output_shape(),
            self.problem.output_type(),
        )?;

        let screen = Screen::new(self.problem, self.routing.kept());
        let choice = Choice {
            routing: self.routing,
            differences: &screen.differences(output.view()),
            digest: digest(&output),
        };
        drop(screen);
        let tokens = choice.tokens();
        sampled.judged = tokens.len();

        let kept = &self.routing.definition().kept;
        let part = self.of_tokens(outcome, &output, &tokens);
        let (verdict, _) = compare_tokens(self.problem, &tokens, kept, self.roundings, &part);
        Ok(verdict)
    }

    /// The stages that follow from the routing alone, and no column of the output.
    fn of_routing(&self, outcome: &Outcome) -> Outcome {
        let output = ArrayD::zeros(self.routing.shape());
        let stages = outcome.stages.iter().filter(|(stage, _)| !is_sampled(*stage));
        Outcome {
            output: Tensor::from_f64(output, self.problem.output_type()),
            stages: stages.fold(Stages::default(), |stages, (stage, values)| {
                stages.with(stage, values.clone())
            }),
        }
    }

    /// Whether each stage with rows has one for each kept assignment.
    fn expect_shapes(&self, outcome: &Outcome) -> Result<(), Box<Mismatch>> {
        let kept = self.routing.kept().len();
        for (stage, values) in outcome.stages.iter().filter(|(stage, _)| is_sampled(*stage)) {
            let StageValues::Rows(rows) = values else {
                return Err(Box::new(Mismatch::kind_of(stage, values)));
            };
            if rows.nrows() != kept {
                return Err(Box::new(Mismatch::Shape {
                    stage,
                    expected: vec![kept, rows.ncols()],
                    found: rows.shape().to_vec(),
                }));
            }
        }
        Ok(())
    }

    /// What an outcome says of some tokens.
    fn of_tokens(&self, outcome: &Outcome, output: &Array2<f64>, tokens: &[usize]) -> Outcome {
        let dims = self.problem.dims();
        let kept = self.routing.kept();
        let is_chosen = |row: &usize| tokens.binary_search(&(kept[*row] / dims.top_k)).is_ok();
        let rows: Vec<usize> = (0..kept.len()).filter(is_chosen).collect();
        let mut stages = Stages::default();
        for (stage, values) in outcome.stages.iter().filter(|(stage, _)| is_sampled(*stage)) {
            if let StageValues::Rows(values) = values {
                stages = stages.with(stage, values.select(Axis(0), &rows));
            }
        }
        let output = output.select(Axis(0), tokens).insert_axis(Axis(0));
        Outcome {
            output: Tensor::from_f64(output.into_dyn(), self.problem.output_type()),
            stages,
        }
    }
}

/// Whether a stage is judged at some tokens only.
fn is_sampled(stage: Stage) -> bool {
    stage.layout() == Layout::KeptRows
}
