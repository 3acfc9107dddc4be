//! What is right at some tokens of a case that is too large to widen.
//!
//! The projections of one expert at a time are widened to f64, on each core those of another. So the memory is little more
//! than that of the case in its element type.

use ndarray::Array2;
use rayon::prelude::*;

use super::bound::Shift;
use super::{Bounds, Definition, Expected, Inputs, Roundings};
use crate::case::AnyProblem;

/// The most assignments of one expert that a thread takes at once, since a routing may give nearly all to one, and there may
/// be fewer experts than threads. The expert is widened for each part, which costs about as much as one more row.
const AT_ONCE: usize = 16;

/// The definition of some tokens, and how far engines of one precision may be from it.
pub(crate) struct Sample {
    /// Its token i is the i-th of the sample. An assignment that is dropped is one to no expert.
    pub(crate) expected: Expected,
    pub(crate) bounds: Bounds,
}

/// Some assignments of one expert, or some tokens of the shared ones.
struct Part {
    /// The rows of the sample.
    rows: Vec<usize>,
    definition: Definition,
    bounds: Bounds,
    shifts: Vec<Option<Shift>>,
}

impl Part {
    fn new(rows: Vec<usize>, inputs: &Inputs, roundings: Roundings) -> Part {
        let definition = Definition::new(inputs);
        let (bounds, shifts) = Bounds::of_rows(inputs, &definition, roundings);
        Part {
            rows,
            definition,
            bounds,
            shifts,
        }
    }

    /// Copies its rows to those of the sample.
    fn copy_to(&self, definition: &mut Definition, bounds: &mut Bounds) {
        for (row, &to) in self.rows.iter().enumerate() {
            let copy = |target: &mut Array2<f64>, from: &Array2<f64>| target.row_mut(to).assign(&from.row(row));
            copy(&mut definition.gate_up, &self.definition.gate_up);
            copy(&mut definition.activated, &self.definition.activated);
            copy(&mut definition.expert_output, &self.definition.expert_output);
            copy(&mut bounds.gate_up, &self.bounds.gate_up);
            copy(&mut bounds.activated, &self.bounds.activated);
            copy(&mut bounds.expert_output, &self.bounds.expert_output);
        }
    }
}

impl Sample {
    /// `tokens` of a problem, each once; `kept` says of each assignment whether the capacity keeps it.
    pub(crate) fn new(problem: &AnyProblem, tokens: &[usize], kept: &[bool], roundings: Roundings) -> Sample {
        let inputs = Inputs::of_tokens(problem, tokens, kept);
        let (top_k, experts) = (inputs.dims.top_k, inputs.dims.experts);
        let mut by_expert = vec![Vec::new(); experts];
        for &flat in &inputs.order {
            by_expert[inputs.assignment(flat).2].push(flat);
        }
        let at_once = inputs
            .order
            .len()
            .div_ceil(rayon::current_num_threads())
            .clamp(1, AT_ONCE);
        let of_expert = |(expert, flats): (usize, Vec<usize>)| {
            let parts = flats.chunks(at_once).map(|part| (expert, part.to_vec()));
            Vec::from_iter(parts)
        };
        let parts: Vec<(usize, Vec<usize>)> = by_expert.into_iter().enumerate().flat_map(of_expert).collect();
        let in_case = |flat: &usize| tokens[flat / top_k] * top_k + flat % top_k;
        let part = |(expert, flats): (usize, Vec<usize>)| {
            let of_case: Vec<usize> = flats.iter().map(in_case).collect();
            Part::new(flats, &Inputs::of_expert(problem, expert, &of_case), roundings)
        };
        let parts: Vec<Part> = parts.into_par_iter().map(part).collect();

        let is_local = |flat| inputs.is_local(flat);
        let mut definition = Definition::zeros(&inputs, (0..tokens.len() * top_k).map(is_local).collect());
        let mut bounds = Bounds::zeros(&definition);
        let mut shifts: Vec<Option<Shift>> = (0..definition.kept.len()).map(|_| None).collect();
        for mut part in parts {
            part.copy_to(&mut definition, &mut bounds);
            for (flat, shift) in part.rows.iter().zip(part.shifts.drain(..)) {
                shifts[*flat] = shift;
            }
        }
        if let (Some(definition), Some(bounds)) = (&mut definition.shared, &mut bounds.shared) {
            for part in of_shared(problem, tokens, roundings) {
                part.copy_to(definition, bounds);
            }
        }
        definition.combine(&inputs);
        bounds.combine(&inputs, &definition, roundings, &shifts);
        let shape = vec![1, tokens.len(), inputs.dims.hidden];
        Sample {
            expected: Expected::with_definition(inputs, definition, shape, problem.element()),
            bounds,
        }
    }
}

/// The rows of the shared experts for some tokens.
fn of_shared(problem: &AnyProblem, tokens: &[usize], roundings: Roundings) -> Vec<Part> {
    let at_once = tokens.len().div_ceil(rayon::current_num_threads()).clamp(1, AT_ONCE);
    let part = |(number, part): (usize, &[usize])| {
        let first = number * at_once;
        let rows = Vec::from_iter(first..first + part.len());
        Part::new(rows, &Inputs::of_shared(problem, part), roundings)
    };
    tokens.par_chunks(at_once).enumerate().map(part).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::Axis;

    use super::*;
    use crate::CaseSpec;
    use crate::generate::Selection;
    use crate::oracle::{Precision, Screen};

    /// Equal bits; any NaN equals any other.
    fn same(one: &Array2<f64>, other: &Array2<f64>) -> bool {
        let equal = |(one, other): (&f64, &f64)| one.to_bits() == other.to_bits() || (one.is_nan() && other.is_nan());
        one.dim() == other.dim() && one.iter().zip(other).all(equal)
    }

    /// In each third case the layer has shared experts.
    fn of_seed(seed: u64) -> (AnyProblem, Expected, Roundings) {
        let layers = if seed.is_multiple_of(3) {
            "layers = [{ shared_experts = 2 }, 'llama4-shared']"
        } else {
            ""
        };
        let selection = Selection {
            domain: layers.parse().unwrap(),
            ..Selection::default()
        };
        let problem = CaseSpec::from_seed(seed, &selection).build().unwrap();
        let element = problem.element();
        let expected = Expected::new(Inputs::new(&problem), problem.output_shape(), element);
        (problem, expected, Roundings::new(Precision::of(element), element))
    }

    /// Tokens of a case alone have the values and the bounds that they have in the whole, bit for bit.
    #[test]
    fn a_sample_is_a_part_of_the_whole() {
        let mut rows = 0;
        for seed in 0..150 {
            let (problem, whole, roundings) = of_seed(seed);
            let bounds = Bounds::new(whole.inputs(), whole.definition(), roundings);
            let (definition, top_k) = (whole.definition(), problem.dims().top_k);
            let tokens: Vec<usize> = (0..problem.dims().tokens)
                .filter(|token| token % 3 != 1)
                .take(24)
                .collect();
            let flats: Vec<usize> = tokens
                .iter()
                .flat_map(|token| token * top_k..(token + 1) * top_k)
                .collect();
            let sample = Sample::new(&problem, &tokens, &definition.kept, roundings);
            let found = sample.expected.definition();
            assert_eq!(
                found.shared.is_some(),
                whole.inputs().layer.shared_experts > 0,
                "seed {seed}"
            );
            let kept: Vec<bool> = flats.iter().map(|flat| definition.kept[*flat]).collect();
            assert_eq!(found.kept, kept, "seed {seed}");
            for (name, found, right) in [
                ("gate_up", &found.gate_up, &definition.gate_up),
                ("activated", &found.activated, &definition.activated),
                ("expert_output", &found.expert_output, &definition.expert_output),
                ("bound of gate_up", &sample.bounds.gate_up, &bounds.gate_up),
                ("bound of activated", &sample.bounds.activated, &bounds.activated),
                (
                    "bound of expert_output",
                    &sample.bounds.expert_output,
                    &bounds.expert_output,
                ),
            ] {
                assert!(same(found, &right.select(Axis(0), &flats)), "seed {seed}: {name}");
            }
            let right = |whole: &Array2<f64>| whole.select(Axis(0), &tokens);
            assert!(same(&found.output, &right(&definition.output)), "seed {seed}: output");
            assert!(
                same(&sample.bounds.output, &right(&bounds.output)),
                "seed {seed}: bound of output"
            );
            let order = |flat: &usize| flats[*flat];
            let of_tokens = |flat: &usize| tokens.contains(&(flat / top_k));
            assert_eq!(
                sample.expected.kept().iter().map(order).collect::<Vec<_>>(),
                whole.kept().iter().copied().filter(of_tokens).collect::<Vec<_>>(),
                "seed {seed}"
            );
            rows += kept.iter().filter(|kept| **kept).count();
        }
        assert!(rows > 2000, "{rows}");
    }

    /// What is right has differences of f64 alone; one element that is wrong makes its token the worst.
    #[test]
    fn a_screen_finds_one_wrong_element() {
        let mut found = 0;
        for seed in 0..60 {
            let (problem, whole, _) = of_seed(seed);
            let screen = Screen::new(&problem, whole.kept());
            let mut output = whole.definition().output.clone();
            let differences = screen.differences(output.view());
            assert_eq!(differences.len(), output.nrows());
            let worst = differences.iter().copied().fold(0.0, f64::max);
            if output.iter().any(|value| !value.is_finite()) || worst.is_infinite() {
                continue;
            }
            assert!(worst < 1e-9, "seed {seed}: {worst}");
            for (token, change) in [(output.nrows() / 2, f64::NAN), (output.nrows() / 3, 1e-3)] {
                let column = output.ncols() / 2;
                let Some(value) = output.get_mut([token, column]).filter(|value| **value != 0.0) else {
                    continue;
                };
                let right = std::mem::replace(value, *value * (1.0 + change));
                let differences = screen.differences(output.view());
                output[[token, column]] = right;
                let worst = differences.iter().copied().fold(0.0, f64::max);
                assert!(differences[token] == worst, "seed {seed}: {differences:?}");
                found += 1;
            }
        }
        assert!(found > 40, "{found}");
    }
}
