//! The cases of a check, by number.

use std::path::PathBuf;
use std::time::Duration;

use super::{CheckError, CheckPlan, Contender, GoldenCase, Shard};
use crate::case::file::{FileError, positions, read_case};
use crate::case::{AnyProblem, CaseSpec, ElementType, SizeProfile};
use crate::domain::{Domain, Limit};
use crate::generate::Selection;
use crate::judge::Trial;
use crate::oracle::{Coverage, Precision};

/// Cases that are tried for each one beyond a limit.
const MOST_TRIED: usize = 4;

/// A case without what it takes to judge engines on it.
#[derive(Clone)]
pub(super) struct Case {
    /// `seed N`, the name of a spec, or a golden's file name and order.
    pub(super) name: String,
    /// Its spec, unless it is a golden or the first case again.
    pub(super) spec: Option<CaseSpec>,
    /// Where it comes from, if it is a golden.
    pub(super) golden: Option<GoldenCase>,
    /// The limit of the domain that it is beyond.
    pub(super) beyond: Option<Limit>,
    pub(super) coverage: Coverage,
    pub(super) element: ElementType,
    /// Number of elements of the output.
    pub(super) elements: usize,
    /// Time spent building the problems.
    pub(super) generating: Duration,
    /// Time spent on the definition and the bounds.
    pub(super) oracle: Duration,
}

/// Where the cases of a check come from: goldens first, then specs, then seeds.
pub(super) struct Sources {
    golden: Vec<Golden>,
    specs: Vec<(String, CaseSpec)>,
    first_seed: u64,
    seeds: usize,
    /// Cases beyond the limits of the domain, after all others.
    outside: Vec<(Limit, CaseSpec)>,
    shard: Shard,
    /// What all generated cases are inside of.
    domain: Domain,
    /// What plan and engines take, whatever the shapes.
    taken: Domain,
    /// What they are drawn from in turn.
    selections: Vec<Selection>,
    /// Whether engines are measured on cases inside.
    measure: bool,
    /// What each engine claims on each element type.
    claims: Vec<Vec<(ElementType, Precision)>>,
}

/// A case before it is built.
struct Drawn {
    name: String,
    spec: CaseSpec,
    /// The limit of the domain that it is beyond.
    beyond: Option<Limit>,
}

struct Golden {
    name: String,
    case: GoldenCase,
    problem: AnyProblem,
}

impl Case {
    /// The same case after all others. No text of a case says that others come before, so it has none.
    pub(super) fn again(&self) -> Case {
        Case {
            name: format!("{}, the first case again", self.name),
            spec: None,
            golden: None,
            ..self.clone()
        }
    }
}

impl Sources {
    pub(super) fn new(contenders: &[Contender<'_>], plan: &CheckPlan) -> Result<Sources, CheckError> {
        for (name, spec) in &plan.specs {
            // A large one is built when it is its turn.
            let checked = if spec.sampled {
                spec.router_indices().map(drop)
            } else {
                spec.build().map(drop)
            };
            checked.map_err(|error| CheckError::Spec {
                name: name.clone(),
                error,
            })?;
        }
        let selection = takeable(contenders, &plan.selection)?;
        let taken = selection.domain.clone();
        let mut domain = taken.clone();
        let selections = plan.shapes.selections(selection, plan.seed)?;
        if let [only] = &selections[..] {
            domain = only.domain.clone();
        }
        Ok(Sources {
            outside: selections
                .first()
                .map_or_else(Vec::new, |selection| beyond(selection, plan)),
            golden: golden(&plan.golden)?,
            specs: plan.specs.clone(),
            first_seed: plan.seed,
            seeds: plan.cases,
            shard: plan.shard,
            measure: plan.measure,
            selections,
            domain,
            taken,
            claims: contenders
                .iter()
                .map(|contender| contender.claims().precisions.clone())
                .collect(),
        })
    }

    /// What the generated cases are inside of.
    pub(super) fn domain(&self) -> &Domain {
        &self.domain
    }

    /// What plan and engines take, whatever the shapes.
    pub(super) fn taken(&self) -> &Domain {
        &self.taken
    }

    /// The number of cases of this shard.
    pub(super) fn len(&self) -> usize {
        let all = self.golden.len() + self.specs.len();
        self.shard
            .share_of(all.saturating_add(self.seeds).saturating_add(self.outside.len()))
    }

    /// Whether a case takes so much memory that no other is to be there meanwhile.
    pub(super) fn is_alone(&self, index: usize) -> bool {
        let index = self.shard.position_of(index);
        let after_files = index.checked_sub(self.golden.len());
        after_files.is_some_and(|index| self.spec(index).spec.sampled)
    }

    /// The case of a number below [`len`](Sources::len), for the engines that still take part.
    pub(super) fn prepare(
        &self,
        index: usize,
        takes_part: impl Fn(usize) -> bool,
    ) -> Result<(Case, Trial), CheckError> {
        let index = self.shard.position_of(index);
        if let Some(golden) = self.golden.get(index) {
            let precisions = self.precisions(golden.problem.element(), takes_part);
            let trial = self.inside(Trial::from_problem(golden.problem.clone(), &precisions));
            let case = case(golden.name.clone(), None, Some(golden.case.clone()), &trial);
            return Ok((case, trial));
        }
        let Drawn { name, spec, beyond } = self.spec(index - self.golden.len());
        let trial = match Trial::from_spec(&spec, &self.precisions(spec.element, takes_part)) {
            Ok(trial) if spec.values.is_varied() => trial.summed(),
            Ok(trial) => trial,
            Err(error) => return Err(CheckError::Spec { name, error }),
        };
        let case = Case {
            beyond,
            ..case(name, Some(spec), None, &trial)
        };
        let trial = match case.beyond {
            None => self.inside(trial),
            Some(_) => trial.explained().beyond_domains(),
        };
        Ok((case, trial))
    }

    /// The case of a number after those of files.
    fn spec(&self, index: usize) -> Drawn {
        let drawn = |name, spec| Drawn {
            name,
            spec,
            beyond: None,
        };
        if let Some((name, spec)) = self.specs.get(index) {
            return drawn(name.clone(), spec.clone());
        }
        let index = index - self.specs.len();
        if index < self.seeds {
            let seed = self.first_seed.wrapping_add(index as u64);
            let selection = &self.selections[(seed % self.selections.len() as u64) as usize];
            return drawn(format!("seed {seed}"), CaseSpec::from_seed(seed, selection));
        }
        let index = index - self.seeds;
        let (beyond, spec) = &self.outside[index];
        Drawn {
            beyond: Some(*beyond),
            ..drawn(format!("outside {index}"), spec.clone())
        }
    }

    fn inside(&self, trial: Trial) -> Trial {
        let explained = trial.explained();
        if self.measure { explained.measured() } else { explained }
    }

    fn precisions(&self, element: ElementType, takes_part: impl Fn(usize) -> bool) -> Vec<Precision> {
        let taking_part = self.claims.iter().enumerate().filter(|(engine, _)| takes_part(*engine));
        let claims = taking_part.flat_map(|(_, claims)| claims);
        let of_element = claims.filter(|(known, _)| *known == element);
        let mut precisions: Vec<Precision> = of_element.map(|(_, precision)| *precision).collect();
        precisions.sort_unstable();
        precisions.dedup();
        precisions
    }
}

fn case(name: String, spec: Option<CaseSpec>, golden: Option<GoldenCase>, trial: &Trial) -> Case {
    let dims = trial.problem().dims();
    Case {
        coverage: Coverage::new(trial.expected()),
        element: trial.problem().element(),
        elements: dims.tokens * dims.hidden,
        generating: trial.generating,
        oracle: trial.oracle,
        name,
        spec,
        golden,
        beyond: None,
    }
}

/// Small cases one step beyond each limit in turn.
fn beyond(selection: &Selection, plan: &CheckPlan) -> Vec<(Limit, CaseSpec)> {
    let domain = &selection.domain;
    let small = Selection {
        sizes: vec![SizeProfile::Tiny],
        specials: Vec::new(),
        against: Vec::new(),
        ..selection.clone()
    };
    let limits = domain.limits();
    // Not every case can be moved beyond every limit.
    let seeds = (plan.seed..).take(plan.outside.saturating_mul(MOST_TRIED));
    let cases = seeds.flat_map(|seed| {
        let inside = CaseSpec::from_seed(seed, &small);
        limits
            .iter()
            .filter_map(|&limit| Some((limit, domain.beyond(limit, &inside)?)))
            .collect::<Vec<_>>()
    });
    cases.take(plan.outside).collect()
}

/// The selection inside the domains of all engines, without element types that no engine takes.
fn takeable(contenders: &[Contender<'_>], selection: &Selection) -> Result<Selection, CheckError> {
    let wanted = |element: &ElementType| selection.elements.is_empty() || selection.elements.contains(element);
    let claims = || contenders.iter().map(Contender::claims);
    let taken = |element: &ElementType| {
        selection.domain.precision_on(*element).is_some() && claims().any(|claims| claims.takes(*element))
    };
    let elements = ElementType::ALL.iter().copied();
    // One engine may take what another does not, by element type.
    let domains = claims().map(|claims| Domain {
        precision: None,
        ..claims.domain.clone()
    });
    let domain = domains.fold(selection.domain.clone(), |all, domain| all.meet(&domain));
    domain.check()?;
    let inside = Selection {
        elements: elements.filter(|element| wanted(element) && taken(element)).collect(),
        domain,
        ..selection.clone()
    };
    match inside.ruled_out() {
        None => Ok(inside),
        Some(profile) => Err(CheckError::RuledOut {
            profile: profile.name(),
            domain: Box::new(inside.domain),
        }),
    }
}

/// Each file as it is, and once more for each other order that it holds.
fn golden(files: &[PathBuf]) -> Result<Vec<Golden>, CheckError> {
    let mut golden = Vec::new();
    for path in files {
        let refused = |error: FileError| CheckError::Golden {
            path: path.clone(),
            error,
        };
        let case = |order: Option<&String>| GoldenCase {
            path: path.clone(),
            order: order.cloned(),
        };
        let stem = path.file_stem().unwrap_or(path.as_os_str());
        let name = stem.to_string_lossy().into_owned();
        let file = read_case(path).map_err(refused)?;
        let orders = file.others.iter().filter(|(name, _)| name.ends_with(".sorted_indices"));
        for (tensor, values) in orders {
            let order = positions(tensor, values).map_err(refused)?;
            let problem = file.problem.clone().with_order(order);
            golden.push(Golden {
                name: format!("{name} with {tensor}"),
                case: case(Some(tensor)),
                problem: problem.map_err(|error| refused(error.into()))?,
            });
        }
        golden.push(Golden {
            name,
            case: case(None),
            problem: file.problem,
        });
    }
    Ok(golden)
}
