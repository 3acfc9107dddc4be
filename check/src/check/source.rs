//! The cases of a check, by number.

use std::path::PathBuf;

use super::{CheckPlan, Contender};
use crate::case::CaseSpec;
use crate::domain::TieOrder;
use crate::engine::precisions_of;
use crate::generate::Selection;
use crate::judge::Trial;
use crate::oracle::{Coverage, Precision};
use crate::program::{FileError, positions, read_case};
use crate::tensor::{AnyProblem, ElementType};

/// A case that is ready to be judged.
pub(super) struct Case {
    /// `seed N`, or a golden's file name and order.
    pub(super) name: String,
    /// Its spec, where it was generated.
    pub(super) spec: Option<CaseSpec>,
    pub(super) trial: Trial,
    pub(super) coverage: Coverage,
}

/// Where the cases of a check come from: goldens first, then seeds.
pub(super) struct Sources {
    golden: Vec<(String, AnyProblem)>,
    first_seed: u64,
    seeds: usize,
    selection: Selection,
    precisions: Vec<(ElementType, Vec<Precision>)>,
}

impl Sources {
    pub(super) fn new(contenders: &[Contender<'_>], plan: &CheckPlan) -> Result<Sources, FileError> {
        let claims = || contenders.iter().map(Contender::claims);
        let precisions = |&element| (element, precisions_of(claims(), element));
        Ok(Sources {
            golden: golden(&plan.golden)?,
            first_seed: plan.seed,
            seeds: plan.cases,
            selection: takeable(contenders, &plan.selection),
            precisions: ElementType::ALL.iter().map(precisions).collect(),
        })
    }

    /// The number of cases.
    pub(super) fn len(&self) -> usize {
        self.golden.len().saturating_add(self.seeds)
    }

    /// The case of a number below [`len`](Sources::len).
    pub(super) fn prepare(&self, index: usize) -> Case {
        let (name, spec, trial) = match self.golden.get(index) {
            Some((name, problem)) => {
                let trial = Trial::from_problem(problem.clone(), self.precisions(problem.element()));
                (name.clone(), None, trial)
            }
            None => {
                let seed = self.first_seed.wrapping_add((index - self.golden.len()) as u64);
                let spec = CaseSpec::from_seed(seed, &self.selection);
                let trial = Trial::from_spec(&spec, self.precisions(spec.element))
                    .unwrap_or_else(|error| panic!("the generator made a case that cannot be built: {error}\n{spec}"));
                (format!("seed {seed}"), Some(spec), trial)
            }
        };
        Case {
            coverage: Coverage::new(trial.expected()),
            name,
            spec,
            trial,
        }
    }

    fn precisions(&self, element: ElementType) -> &[Precision] {
        let of_element = self.precisions.iter().find(|(known, _)| *known == element);
        of_element.map(|(_, precisions)| &precisions[..]).unwrap_or_default()
    }
}

/// The selection, without element types that no engine takes, and without orders where some engine takes none.
fn takeable(contenders: &[Contender<'_>], selection: &Selection) -> Selection {
    let wanted = |element: &ElementType| selection.elements.is_empty() || selection.elements.contains(element);
    let claims = || contenders.iter().map(Contender::claims);
    let taken = |element: &ElementType| claims().any(|engine| engine.precision(*element).is_some());
    let elements = ElementType::ALL.iter().copied();
    let mut domain = selection.domain.clone();
    if !claims().all(|engine| engine.takes_order()) {
        domain.tie_order = Some(TieOrder::Stable);
    }
    Selection {
        elements: elements.filter(|element| wanted(element) && taken(element)).collect(),
        domain,
        ..selection.clone()
    }
}

/// Each file as it is, and once more for each other order that it holds.
fn golden(files: &[PathBuf]) -> Result<Vec<(String, AnyProblem)>, FileError> {
    let mut golden = Vec::new();
    for path in files {
        let stem = path.file_stem().unwrap_or(path.as_os_str());
        let name = stem.to_string_lossy().into_owned();
        let file = read_case(path)?;
        let orders = file.others.iter().filter(|(name, _)| name.ends_with(".sorted_indices"));
        for (tensor, values) in orders {
            let problem = file.problem.clone().with_order(positions(tensor, values)?)?;
            golden.push((format!("{name} with {tensor}"), problem));
        }
        golden.push((name, file.problem));
    }
    Ok(golden)
}
