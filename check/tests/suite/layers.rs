//! Layers of other models, and ids of experts that are not local: PyTorch's results, files, and what is drawn.

use std::collections::BTreeSet;
use std::path::PathBuf;

use binned_experts_check::case::file::{CaseFile, parse_case, read_case, write_case};
use binned_experts_check::case::{LayerSpec, ValueProfile};
use binned_experts_check::engine::Reference;
use binned_experts_check::engine::program::tensors;
use binned_experts_check::judge::{Trial, compare, judge};
use binned_experts_check::oracle::{Bounds, Coverage, Expected, Inputs, Roundings};
use binned_experts_check::{
    CaseSpec, CheckPlan, Domain, ElementType, Engine, Outcome, Precision, Selection, Stages, Verdict, check_engine,
};
use binned_experts_reference::ActivationKind;

use crate::common::{expected, selection};

/// Every layer by name, and each other activation with tensors in layouts of its own.
const LAYERS: &str = "layers = ['gpt-oss', 'mixtral', 'deepseek-v3', 'llama4', 'nemotron-h',
    { activation = 'gelu', gate_up = 'concatenated', bias = false },
    { activation = 'gelu-tanh', projections = 'out-in', scale = 0.3 },
    { activation = 'clamped-silu', routing_weights = 'by-slot', weight_on = 'input' },
    { activation = 'relu-squared', weight_on = 'input', gate_up = 'concatenated' },
    'gpt-oss-f32-biases', 'mixtral-f32-weights',
    { bias_type = 'wide', routing_weight_type = 'wide', output_type = 'wide', scale = 0.7 }]
";
const FOREIGN: &str = "foreign = ['minus-one', 'other-ranks']";

/// The cases of `tests/layers` by name: layers written out in PyTorch, and those of Hugging Face transformers.
fn goldens() -> Vec<(String, CaseFile)> {
    let directory = std::fs::read_dir(crate::in_repository("tests/layers")).unwrap();
    let mut paths: Vec<PathBuf> = directory.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let name = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    let goldens: Vec<_> = paths
        .iter()
        .map(|path| (name(path), read_case(path).unwrap()))
        .collect();
    assert!(goldens.len() >= 45, "{}", goldens.len());
    goldens
}

#[test]
fn goldens_have_every_activation_and_layout() {
    let layers = goldens().into_iter().map(|(_, file)| *file.problem.layer());
    let layers: Vec<LayerSpec> = layers.map(LayerSpec::from).collect();
    for &kind in ActivationKind::ALL {
        assert!(layers.iter().any(|layer| layer.activation == kind), "{kind}");
    }
    let usual = LayerSpec::default();
    let differs: [fn(&LayerSpec, &LayerSpec) -> bool; 10] = [
        |layer, usual| layer.gate_up != usual.gate_up,
        |layer, usual| layer.bias != usual.bias,
        |layer, usual| layer.projections != usual.projections,
        |layer, usual| layer.routing_weights != usual.routing_weights,
        |layer, usual| layer.weight_on != usual.weight_on,
        |layer, usual| layer.scale != usual.scale,
        |layer, usual| layer.bias_type != usual.bias_type,
        |layer, usual| layer.routing_weight_type != usual.routing_weight_type,
        |layer, usual| layer.output_type != usual.output_type,
        |layer, usual| layer.shared_experts != usual.shared_experts,
    ];
    for differs in differs {
        assert!(layers.iter().any(|layer| differs(layer, &usual)));
    }
}

#[test]
fn the_reference_and_pytorch_agree() {
    for (name, file) in goldens() {
        let precision = Precision::of(file.problem.element());
        let trial = Trial::from_problem(file.problem.clone(), &[precision]);
        let verdict = judge(&mut Reference, &trial).verdict;
        assert!(matches!(verdict, Verdict::Agree { .. }), "{name}: {verdict:?}");
        let output = Outcome::output(file.others["output"].clone());
        let verdict = compare(trial.expected(), trial.bounds(precision).unwrap(), &output);
        assert!(matches!(verdict, Verdict::Agree { .. }), "{name}, PyTorch: {verdict:?}");
    }
}

#[test]
fn pytorchs_f64_result_is_that_of_the_definition() {
    for (name, file) in goldens() {
        let problem = &file.problem;
        let expected = Expected::new(Inputs::new(problem), problem.output_shape(), ElementType::F64);
        let roundings = Roundings::new(Precision::FP64, ElementType::F64);
        let bounds = Bounds::new(expected.inputs(), expected.definition(), roundings);
        let outcome = Outcome {
            output: file.others["output_f64"].clone(),
            stages: Stages::default(),
        };
        let verdict = compare(&expected, &bounds, &outcome);
        assert!(matches!(verdict, Verdict::Agree { .. }), "{name}: {verdict:?}");
    }
}

/// The reference rounds where PyTorch does, so most of its bits are PyTorch's.
#[test]
fn most_bits_are_those_of_pytorch() {
    let (mut same, mut all) = (0, 0);
    for (_, file) in goldens() {
        if file.problem.element() == ElementType::F32 {
            continue;
        }
        let ours = Reference.forward(&file.problem).unwrap().output.to_f64();
        let pairs = ours.iter().zip(file.others["output"].to_f64());
        same += pairs.filter(|(ours, theirs)| **ours == *theirs).count();
        all += ours.len();
    }
    assert!(same * 100 >= all * 85, "{same} of {all}");
}

#[test]
fn a_written_case_is_read_back() {
    let selection = selection(&format!("{LAYERS}{FOREIGN}"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.safetensors");
    for seed in 0..300 {
        let spec = CaseSpec::from_seed(seed, &selection);
        if spec.tokens() * spec.experts > 1 << 16 || spec.special.is_some() {
            continue;
        }
        let problem = spec.build().unwrap();
        write_case(&path, &problem).unwrap();
        let read = read_case(&path).unwrap().problem;
        let inputs = [Inputs::new(&problem), Inputs::new(&read)];
        let [written, read] = &inputs;
        assert_eq!(written.layer, read.layer, "{spec}");
        assert_eq!(written.router_indices, read.router_indices, "{spec}");
        assert_eq!(written.gate_up_proj, read.gate_up_proj, "{spec}");
        assert_eq!(written.gate_up_proj_bias, read.gate_up_proj_bias, "{spec}");
        assert_eq!(written.down_proj, read.down_proj, "{spec}");
        let weights =
            |inputs: &Inputs| Vec::from_iter((0..spec.tokens() * spec.top_k).map(|flat| inputs.selected_weight(flat)));
        assert_eq!(weights(written), weights(read), "{spec}");
    }
}

/// A program's stage is written in the layer's order of columns and read back from it.
#[test]
fn gate_up_is_shown_in_the_order_of_the_layer() {
    let (_, file) = goldens()
        .into_iter()
        .find(|(name, _)| name == "swiglu_concatenated")
        .unwrap();
    let outcome = Reference.forward(&file.problem).unwrap();
    let shown = tensors(&outcome, &file.problem, usize::MAX);
    let inner = file.problem.dims().intermediate;
    let [row, width] = [0, 2 * inner].map(|at| shown["gate_up"].to_f64()[at]);
    let rows = outcome.stages.get(binned_experts_check::Stage::GateUp).unwrap();
    let binned_experts_check::StageValues::Rows(rows) = rows else {
        panic!("rows")
    };
    assert_eq!((row, width), (rows[[0, 0]], rows[[1, 0]]));
    assert_eq!(shown["gate_up"].to_f64()[inner], rows[[0, 1]]);
}

#[test]
fn every_layer_of_the_domain_is_drawn_and_no_other() {
    let selection = selection(LAYERS);
    let mut seen = BTreeSet::new();
    for seed in 0..400 {
        let spec = CaseSpec::from_seed(seed, &selection);
        assert_eq!(selection.domain.admits(&spec), Ok(()), "{spec}");
        assert_eq!(spec.to_string().parse::<CaseSpec>().unwrap(), spec);
        seen.insert(spec.layer.to_string());
    }
    assert_eq!(seen.len(), 12, "{seen:?}");
    let other = CaseSpec::from_seed(1, &crate::common::selection("layers = ['mixtral']"));
    let outside = Domain::default().admits(&other).unwrap_err().to_string();
    assert_eq!(outside, "layers: expected layer gpt-oss, found mixtral");
}

/// Parts of layers that a domain leaves out are those of no case; where nobody asks for a layer, the usual one is drawn.
#[test]
fn a_domain_may_take_some_activations_and_places_of_the_weight() {
    let some = "layers = 'any'\nactivation = ['clamped-swiglu', 'silu']\nweight_on = ['output']\n";
    let domain: Domain = some.parse().unwrap();
    for seed in 0..100 {
        let drawn = CaseSpec::from_seed(seed, &selection(some));
        assert_eq!(drawn, CaseSpec::from_seed(seed, &Selection::default()));
    }
    let of = |layers: &str| layers.parse::<Domain>().unwrap().meet(&domain);
    let asked = Selection {
        domain: of("layers = ['mixtral', 'llama4', 'nemotron-h', 'deepseek-v3']"),
        ..Selection::default()
    };
    let drawn: BTreeSet<String> = (0..60)
        .map(|seed| CaseSpec::from_seed(seed, &asked).layer.to_string())
        .collect();
    assert_eq!(drawn, BTreeSet::from(["deepseek-v3", "mixtral"].map(str::to_owned)));
    for (layer, expected) in [
        (
            "gelu-tanh",
            "activation: expected clamped-swiglu or silu, found gelu-tanh",
        ),
        (
            "relu-squared",
            "activation: expected clamped-swiglu or silu, found relu-squared",
        ),
        ("silu', weight_on = 'input", "weight_on: expected output, found input"),
    ] {
        let layers = format!("layers = [{{ activation = '{layer}' }}]");
        let spec = CaseSpec::from_seed(0, &selection(&layers));
        assert_eq!(domain.admits(&spec).unwrap_err().to_string(), expected);
        let none = of(&layers).check().unwrap_err().to_string();
        assert_eq!(
            none,
            "domain: layers: expected at least one layer that all take, found none"
        );
    }
    let read: Domain = Domain::from_json(&serde_json::to_string(&domain).unwrap()).unwrap();
    assert_eq!(read, domain);
    let error = "activation = ['tanh']".parse::<Domain>().unwrap_err().to_string();
    assert!(
        error.contains("activation: expected one of clamped-swiglu, silu"),
        "{error}"
    );
}

/// A domain with the layer of gpt-oss alone draws what one without layers draws.
#[test]
fn a_domain_of_the_usual_layer_draws_the_usual_cases() {
    let named = selection("layers = ['gpt-oss']");
    for seed in 0..300 {
        assert_eq!(
            CaseSpec::from_seed(seed, &named),
            CaseSpec::from_seed(seed, &Selection::default())
        );
    }
}

#[test]
fn foreign_ids_stand_in_every_slot_in_whole_tokens_and_in_whole_batches() {
    let selection = selection(FOREIGN);
    let (mut cases, mut whole_tokens, mut whole_batches, mut first, mut last, mut none) = (0, 0, 0, 0, 0, 0);
    for seed in 0..400 {
        let spec = CaseSpec::from_seed(seed, &selection);
        assert_eq!(selection.domain.admits(&spec), Ok(()), "{spec}");
        let expected = expected(&spec);
        if !Coverage::new(&expected).foreign {
            none += 1;
            continue;
        }
        let top_k = spec.top_k;
        let inputs = expected.inputs();
        let is_foreign = |token: usize, slot: usize| !inputs.is_local(token * top_k + slot);
        let is_whole = |token: &usize| (0..top_k).all(|slot| is_foreign(*token, slot));
        let whole: Vec<usize> = (0..spec.tokens()).filter(is_whole).collect();
        for &token in &whole {
            assert!(
                expected
                    .definition()
                    .output
                    .row(token)
                    .iter()
                    .all(|value| *value == 0.0),
                "{spec}"
            );
        }
        cases += 1;
        whole_tokens += usize::from(!whole.is_empty() && whole.len() < spec.tokens());
        whole_batches += usize::from(whole.len() == spec.tokens());
        first += usize::from((0..spec.tokens()).any(|token| is_foreign(token, 0) && !is_whole(&token)));
        last += usize::from((0..spec.tokens()).any(|token| is_foreign(token, top_k - 1) && !is_whole(&token)));
    }
    let counts = [cases, whole_tokens, whole_batches, first, last, none];
    assert!(counts.iter().all(|count| *count >= 20), "{counts:?}");
}

/// Different experts of a token stay different where ids are those of all ranks.
#[test]
fn ids_of_other_ranks_keep_experts_apart() {
    let selection = selection("duplicates = false\nforeign = ['other-ranks']");
    for seed in 0..200 {
        let spec = CaseSpec::from_seed(seed, &selection);
        let ids = spec.router_indices().unwrap();
        for row in ids.rows() {
            let different: BTreeSet<i64> = row.iter().copied().collect();
            assert_eq!(different.len(), row.len(), "{spec}");
            assert!(row.iter().all(|id| *id >= 0), "{spec}");
        }
    }
}

/// Without biases a feature of the tokens carries what they are for.
#[test]
fn low_gates_are_low_without_biases() {
    for name in ["mixtral", "nemotron-h"] {
        let selection = Selection {
            values: vec![ValueProfile::LowGates],
            elements: vec![ElementType::F32],
            ..selection(&format!("layers = ['{name}']"))
        };
        let (mut low, mut all) = (0, 0);
        for seed in 0..60 {
            let spec = CaseSpec::from_seed(seed, &selection);
            if spec.special.is_some() {
                continue;
            }
            let expected = expected(&spec);
            let step = spec.layer.activation.columns();
            for flat in (0..spec.tokens() * spec.top_k).filter(|flat| expected.definition().kept[*flat]) {
                let gates = expected.definition().gate_up.row(flat);
                low += gates.iter().step_by(step).filter(|gate| **gate < -8.0).count();
                all += gates.len() / step;
            }
        }
        assert!(low * 100 >= all * 90, "{name}: {low} of {all}");
    }
}

#[test]
fn the_reference_agrees_on_every_layer() {
    let plan = CheckPlan {
        cases: 300,
        selection: selection(&format!("{LAYERS}{FOREIGN}")),
        ..CheckPlan::default()
    };
    check_engine(&mut Reference, &plan).assert_agrees();
}

#[test]
fn a_case_with_a_wrong_layer_is_refused() {
    let (_, golden) = goldens().into_iter().find(|(name, _)| name == "silu").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.safetensors");
    write_case(&path, &golden.problem).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains(r#"\"activation\":\"silu\""#), "{text}");
    // Of the same length, so that the header stays one.
    let renamed = |from: &[u8], to: &[u8]| {
        let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
        let mut bytes = bytes.clone();
        bytes[at..at + from.len()].copy_from_slice(to);
        parse_case(&path, &bytes).unwrap_err().to_string()
    };
    let error = renamed(b"silu", b"tanh");
    assert!(
        error.starts_with("metadata layer: expected a table of a layer as JSON"),
        "{error}"
    );
    assert!(
        error.contains("activation: expected one of clamped-swiglu, silu"),
        "{error}"
    );
    let error = renamed(b"by-slot", b"by-slit");
    assert!(
        error.contains("routing_weights: expected one of by-expert, by-slot, found by-slit"),
        "{error}"
    );
}

/// The rounding of each weighted feature is one, whose sum over a row has a spread of its own.
#[test]
fn the_reference_agrees_where_the_weight_is_on_the_input() {
    for element in [ElementType::Bf16, ElementType::F16] {
        let plan = CheckPlan {
            cases: 300,
            seed: 100,
            selection: Selection {
                elements: vec![element],
                values: vec![ValueProfile::Gentle],
                ..selection("layers = ['llama4']")
            },
            ..CheckPlan::default()
        };
        check_engine(&mut Reference, &plan).assert_agrees();
    }
}
