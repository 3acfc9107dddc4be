//! Tensors that are handed over as views: what is drawn, files, and who takes them.

use std::collections::BTreeSet;
use std::path::Path;

use binned_experts_check::case::file::{Laid, case_tensors, parse_case, read_case, write_case};
use binned_experts_check::case::{ViewKind, Viewed};
use binned_experts_check::engine::Reference;
use binned_experts_check::judge::shrink;
use binned_experts_check::{
    AnyProblem, CaseSpec, CheckPlan, Domain, ElementType, Engine, Fault, Outcome, Selection, Tensor, Verdict,
    check_engine,
};
use binned_experts_reference::View;

use crate::common::selection;

const ALL: &str = "views = ['strided', 'stepped', 'offset', 'transposed']";

#[test]
fn every_view_of_every_tensor_is_drawn() {
    let layers = format!("layers = ['gpt-oss', 'gpt-oss-mxfp4', {{ shared_experts = 1 }}]\n{ALL}");
    let selection = selection(&layers);
    let (mut seen, mut none) = (BTreeSet::new(), 0);
    for seed in 0..400 {
        let spec = CaseSpec::from_seed(seed, &selection);
        assert_eq!(selection.domain.admits(&spec), Ok(()), "{spec}");
        assert_eq!(spec.to_string().parse::<CaseSpec>().unwrap(), spec);
        seen.extend(spec.views.clone());
        none += usize::from(spec.views.is_empty());
    }
    assert_eq!(seen.len(), Viewed::ALL.len() * ViewKind::ALL.len());
    assert!((50..150).contains(&none), "{none}");
}

/// Views are the last choice, so that all else is drawn as without.
#[test]
fn a_domain_of_views_draws_the_same_cases() {
    let viewed = selection(ALL);
    for seed in 0..200 {
        let spec = CaseSpec::from_seed(seed, &viewed);
        let plain = CaseSpec::from_seed(seed, &Selection::default());
        let without = CaseSpec {
            views: plain.views.clone(),
            ..spec
        };
        assert_eq!(without, plain);
        assert!(plain.views.is_empty());
    }
}

fn with_views(seed: u64) -> CaseSpec {
    let spec = (0..).map(|at| CaseSpec::from_seed(seed + at, &selection(ALL)));
    let mut small =
        spec.filter(|spec| spec.views.len() > 2 && spec.special.is_none() && spec.tokens() * spec.experts < 1 << 12);
    small.next().unwrap()
}

/// What a program reads between the elements of a view is NaN or no id.
#[test]
fn what_is_between_the_elements_is_poison() {
    let poisons = |tensor: &Tensor| match tensor {
        Tensor::I64(storage) => storage.iter().filter(|id| **id == -1).count(),
        Tensor::U8(storage) => storage.iter().filter(|byte| **byte == 255).count(),
        storage => storage.to_f64().iter().filter(|value| value.is_nan()).count(),
    };
    let selection = selection("layers = ['gpt-oss', 'gpt-oss-mxfp4']");
    for seed in 0..60 {
        let spec = CaseSpec {
            special: None,
            against: None,
            ..CaseSpec::from_seed(seed, &selection)
        };
        if spec.tokens() * spec.experts > 1 << 12 || spec.experts * spec.hidden > 1 << 12 {
            continue;
        }
        for (name, tensor) in case_tensors(&spec.build().unwrap()) {
            for &view in View::ALL {
                let laid = Laid::new(&tensor, view);
                let (own, all) = (tensor.to_f64().len(), laid.storage.to_f64().len());
                let code = poisons(&tensor);
                assert_eq!(poisons(&laid.storage), all - own + code, "{name} {view}: {spec}");
            }
        }
    }
}

#[test]
fn a_written_case_is_read_back_with_its_views() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.safetensors");
    let mut kinds = BTreeSet::new();
    for seed in [0, 20, 40, 60, 80] {
        let spec = with_views(seed);
        kinds.extend(spec.views.values().copied());
        let problem = spec.build().unwrap();
        write_case(&path, &problem).unwrap();
        let read = read_case(&path).unwrap().problem;
        assert_eq!(read.views(), problem.views());
        assert!(case_tensors(&read) == case_tensors(&problem), "{spec}");
    }
    assert_eq!(kinds.len(), 4);
}

#[test]
fn a_view_that_is_not_there_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.safetensors");
    let spec = CaseSpec {
        views: [(Viewed::HiddenStates, ViewKind::Stepped)].into(),
        ..with_views(0)
    };
    write_case(&path, &spec.build().unwrap()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    // Of the same length, so that the header stays one.
    let changed = |from: &str, to: &str| {
        let at = bytes
            .windows(from.len())
            .position(|window| window == from.as_bytes())
            .unwrap();
        let mut bytes = bytes.clone();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        parse_case(Path::new("case"), &bytes).unwrap_err().to_string()
    };
    let error = changed(r#"\"view\":\"stepped\""#, r#"\"view\":\"slipped\""#);
    assert!(error.contains("view: expected one of contiguous, strided"), "{error}");
    let error = changed(r#",2],\"offset\":0"#, r#",2],\"offset\":9"#);
    assert!(error.contains("hidden_states: shape"), "{error}");
    let error = changed(r#",2],\"offset\""#, r#",2],\"offsat\""#);
    assert!(
        error.starts_with("metadata views: expected view, shape, strides and offset"),
        "{error}"
    );
    let other = CaseSpec {
        views: [(Viewed::DownProjBlocks, ViewKind::Strided)].into(),
        ..spec
    };
    let error = other.build().unwrap_err().to_string();
    assert!(error.starts_with("views: expected one of hidden_states, "), "{error}");
    assert!(error.ends_with("found down_proj_blocks"), "{error}");
}

#[test]
fn the_reference_agrees() {
    let plan = CheckPlan {
        cases: 100,
        selection: selection(ALL),
        ..CheckPlan::default()
    };
    check_engine(&mut Reference, &plan).assert_agrees();
}

/// Refuses every view, as a kernel with a check of its arguments.
struct Contiguous(Domain);

impl Engine for Contiguous {
    fn name(&self) -> &str {
        "contiguous"
    }

    fn domain(&self) -> Domain {
        self.0.clone()
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        match problem.views().keys().next() {
            Some(name) => Err(Fault::declined(format!("{name} is not contiguous"))),
            None => Reference.forward(problem),
        }
    }
}

#[test]
fn a_kernel_that_refuses_declines_and_one_that_says_nothing_is_not_asked() {
    let plan = CheckPlan {
        cases: 80,
        selection: Selection {
            elements: vec![ElementType::F32],
            ..Selection::default()
        },
        ..CheckPlan::default()
    };
    let counts = |domain: &str| {
        let domain = Domain {
            tie_order: Some(binned_experts_check::domain::TieOrder::Given),
            ..domain.parse().unwrap()
        };
        let report = check_engine(&mut Contiguous(domain), &plan);
        report.assert_agrees();
        let engine = &report.engines[0];
        let declined: usize = engine.declined.iter().map(|declined| declined.cases).sum();
        (engine.agree, declined)
    };
    let (takes, none) = (counts(ALL), counts(""));
    assert!(takes.0 > 10 && takes.1 > 40, "{takes:?}");
    assert_eq!(none, (80, 0));
}

#[test]
fn views_that_do_not_matter_are_dropped() {
    let domain: Domain = ALL.parse().unwrap();
    let failure = || Verdict::Fault(Fault::refused("wrong"));
    let transposed = [
        Viewed::HiddenStates,
        Viewed::RouterIndices,
        Viewed::DownProj,
        Viewed::DownProjBias,
    ];
    let spec = CaseSpec {
        views: transposed.map(|tensor| (tensor, ViewKind::Transposed)).into(),
        ..with_views(0)
    };
    let fails = |spec: &CaseSpec| spec.views.contains_key(&Viewed::DownProjBias).then(failure);
    let shrunk = shrink(&spec, failure(), &domain, 2000, fails);
    assert_eq!(Vec::from_iter(shrunk.spec.views.keys()), [&Viewed::DownProjBias]);
}
