//! Shared experts: what is drawn, files, and that honest kernels agree in whatever order they add them.

use std::collections::BTreeSet;

use binned_experts_check::case::file::{case_tensors, parse_case, read_case, write_case};
use binned_experts_check::case::{LayerSpec, Place, Special, SpecialValue, ValueProfile};
use binned_experts_check::domain::Taken;
use binned_experts_check::engine::{Engine, Fault, Outcome, Reference};
use binned_experts_check::judge::shrink;
use binned_experts_check::oracle::{Coverage, Inputs};
use binned_experts_check::{
    AnyProblem, CaseElement, CaseSpec, CheckPlan, Domain, ElementType, Precision, Selection, Verdict, check_engine,
};
use binned_experts_reference::{ActivationKind, Problem, TensorType, binned_experts_ref};
use ndarray::{Array1, Array2};

use crate::common::{expected, selection};

/// With and without biases and ups, in both layouts, with a factor, with the weight on the input, and with wide
/// tensors.
const LAYERS: &str = "layers = ['deepseek-v3-shared', 'llama4-shared', { shared_experts = 2 },
    { activation = 'relu-squared', bias = false, scale = 0.3, shared_experts = 3 },
    { activation = 'gelu', gate_up = 'concatenated', projections = 'out-in', shared_experts = 1 },
    { bias_type = 'wide', routing_weight_type = 'wide', output_type = 'wide', scale = 0.5, shared_experts = 1 }]
";
const OTHERS: &str = "foreign = ['minus-one', 'other-ranks']\nviews = ['strided', 'transposed', 'offset', 'stepped']";

#[test]
fn the_reference_agrees() {
    let plan = CheckPlan {
        cases: 300,
        selection: selection(&format!("{LAYERS}{OTHERS}")),
        ..CheckPlan::default()
    };
    check_engine(&mut Reference, &plan).assert_agrees();
}

/// What a kernel does with the row of the shared experts, in the type that operations compute in.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// The slots are added to it one by one.
    First,
    /// It is one more slot, and the sum is rounded once.
    LastSlot,
    /// The routed sum is stored, and the row is not.
    RowNotStored,
}

/// A kernel that takes the experts' rows from the reference.
struct Kernel(Way);

impl Kernel {
    fn outcome<T: CaseElement>(&self, problem: &Problem<T>) -> Result<Outcome, Fault> {
        let (trace, dims) = (binned_experts_ref(problem).map_err(Fault::refused)?, problem.dims());
        let (layer, bins, zero) = (problem.layer(), problem.bins(), T::ZERO.widen());
        let scale = T::scalar(layer.scale);
        let shared = trace.shared_output.unwrap().mapv(T::widen);
        let mut routed = Array2::from_elem((dims.tokens, dims.hidden), zero);
        let mut onto = shared.clone();
        for expert in 0..dims.experts {
            let kept = bins.kept(expert, dims.capacity);
            for (row, &flat) in trace.expert_output.expert(expert).rows().into_iter().zip(kept) {
                let row: Array1<T::Wide> = row.mapv(|value| value.widen() * trace.selected_weights[flat]);
                let token = flat / dims.top_k;
                routed.row_mut(token).zip_mut_with(&row, |sum, value| *sum += *value);
                onto.row_mut(token)
                    .zip_mut_with(&row, |sum, value| *sum += *value * scale);
            }
        }
        let store = |value: T::Wide| match layer.output_type {
            TensorType::Element => T::narrow(value).widen(),
            TensorType::Wide => value,
        };
        let output = match self.0 {
            Way::First => onto.mapv(store),
            Way::LastSlot => (routed * scale + shared).mapv(store),
            Way::RowNotStored => ((routed * scale).mapv(store) + shared).mapv(store),
        };
        let output = output.into_shape_with_order(problem.hidden_states().raw_dim()).unwrap();
        Ok(Outcome::output(T::narrowed(output, layer.output_type)))
    }
}

impl Engine for Kernel {
    fn name(&self) -> &str {
        "kernel"
    }

    fn domain(&self) -> Domain {
        Domain {
            layers: Some(Taken::Any),
            weight_on: Some(vec![Default::default()]),
            ..Domain::in_stable_order()
        }
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        match problem {
            AnyProblem::F32(problem) => self.outcome(problem),
            AnyProblem::F64(problem) => self.outcome(problem),
            AnyProblem::Bf16(problem) => self.outcome(problem),
            AnyProblem::F16(problem) => self.outcome(problem),
        }
    }
}

#[test]
fn kernels_agree_whenever_they_add_the_shared_experts() {
    for way in [Way::First, Way::LastSlot, Way::RowNotStored] {
        for element in [ElementType::F32, ElementType::Bf16, ElementType::F16] {
            let plan = CheckPlan {
                cases: 150,
                selection: Selection {
                    elements: vec![element],
                    ..selection(LAYERS)
                },
                ..CheckPlan::default()
            };
            check_engine(&mut Kernel(way), &plan).assert_agrees();
        }
    }
}

#[test]
fn every_case_is_inside_and_is_read_back_as_it_was_written() {
    let selection = selection(&format!("{LAYERS}{OTHERS}"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.safetensors");
    let mut layers = BTreeSet::new();
    for seed in 0..200 {
        let spec = CaseSpec::from_seed(seed, &selection);
        assert_eq!(selection.domain.admits(&spec), Ok(()), "{spec}");
        assert_eq!(spec.to_string().parse::<CaseSpec>().unwrap(), spec);
        layers.insert(spec.layer.to_string());
        if spec.tokens() * spec.experts > 1 << 16 || spec.special.is_some() {
            continue;
        }
        let problem = spec.build().unwrap();
        write_case(&path, &problem).unwrap();
        let [written, read] = [problem, read_case(&path).unwrap().problem].map(|problem| {
            let shared = *Inputs::new(&problem).shared.unwrap();
            (
                shared.gate_up_proj,
                shared.gate_up_proj_bias,
                shared.down_proj,
                shared.down_proj_bias,
            )
        });
        assert_eq!(written, read, "{spec}");
    }
    assert_eq!(layers.len(), 6, "{layers:?}");
}

/// The names and shapes of what a file has besides.
#[test]
fn a_file_has_the_shared_experts_without_an_axis_of_experts() {
    let shapes = |layer: &str| {
        let spec = CaseSpec {
            hidden: 5,
            intermediate: 3,
            special: None,
            ..CaseSpec::from_seed(0, &selection(&format!("layers = [{layer}]")))
        };
        let tensors = case_tensors(&spec.build().unwrap());
        let shared = tensors.into_iter().filter(|(name, _)| name.starts_with("shared"));
        Vec::from_iter(shared.map(|(name, tensor)| (name, tensor.shape().to_vec())))
    };
    let named = |shapes: &[(&str, &[usize])]| {
        let owned = |(name, shape): &(&str, &[usize])| ((*name).to_owned(), shape.to_vec());
        Vec::from_iter(shapes.iter().map(owned))
    };
    let biased = [
        ("shared_down_proj", &[6, 5][..]),
        ("shared_down_proj_bias", &[5]),
        ("shared_gate_up_proj", &[5, 12]),
        ("shared_gate_up_proj_bias", &[12]),
    ];
    assert_eq!(shapes("{ shared_experts = 2 }"), named(&biased));
    let transposed = [("shared_down_proj", &[5, 3][..]), ("shared_gate_up_proj", &[6, 5])];
    assert_eq!(shapes("'deepseek-v3-shared'"), named(&transposed));
    let without_ups = [("shared_down_proj", &[3, 5][..]), ("shared_gate_up_proj", &[5, 3])];
    let layer = "{ activation = 'relu-squared', bias = false, shared_experts = 1 }";
    assert_eq!(shapes(layer), named(&without_ups));
}

#[test]
fn a_file_without_a_tensor_or_with_one_of_another_shape_is_refused() {
    let spec = CaseSpec {
        hidden: 5,
        intermediate: 3,
        special: None,
        ..CaseSpec::from_seed(0, &selection("layers = [{ shared_experts = 2 }]"))
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.safetensors");
    write_case(&path, &spec.build().unwrap()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    // Of the same length, so that the header stays one.
    let changed = |from: &[u8], to: &[u8]| {
        let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
        let mut bytes = bytes.clone();
        bytes[at..at + from.len()].copy_from_slice(to);
        parse_case(&path, &bytes).unwrap_err().to_string()
    };
    let error = changed(br#""shared_down_proj""#, br#""shared_dawn_proj""#);
    assert!(error.starts_with("shared_down_proj: expected"), "{error}");
    let error = changed(br#"shared_experts\":2"#, br#"shared_experts\":3"#);
    assert_eq!(error, "shared_experts: expected weights of 3, found those of 2");
    let error = changed(br#""shape":[6,5]"#, br#""shape":[5,6]"#);
    assert_eq!(error, "shared_down_proj: expected shape [1, 6, 5], found [1, 5, 6]");
}

/// A case that shrinks keeps their values where E and the other sizes change.
#[test]
fn values_of_shared_experts_depend_on_their_position_alone() {
    let spec = CaseSpec {
        hidden: 4,
        intermediate: 3,
        experts: 3,
        top_k: 1,
        special: None,
        values: ValueProfile::LargeBias,
        ..CaseSpec::from_seed(3, &selection("layers = [{ shared_experts = 2 }]"))
    };
    let of = |spec: &CaseSpec| *Inputs::new(&spec.build().unwrap()).shared.unwrap();
    let fewer = CaseSpec {
        experts: 2,
        ..spec.clone()
    };
    assert_eq!(of(&spec).gate_up_proj, of(&fewer).gate_up_proj);
    assert_eq!(of(&spec).down_proj_bias, of(&fewer).down_proj_bias);
    let mut one = spec.clone();
    one.layer.shared_experts = 1;
    let (two, one) = (of(&spec), of(&one));
    assert_eq!(one.gate_up_proj, two.gate_up_proj.slice(ndarray::s![.., .., ..6]));
    let routed = Inputs::new(&spec.build().unwrap());
    for expert in 0..3 {
        let own = routed.gate_up_proj.slice(ndarray::s![expert..=expert, .., ..]);
        assert_ne!(own, two.gate_up_proj.slice(ndarray::s![.., .., ..6]));
    }
}

/// Large cases are drawn row by row.
#[test]
fn a_sampled_case_has_the_same_shared_experts() {
    for layer in ["{ shared_experts = 2 }", "'deepseek-v3-shared'"] {
        let whole = CaseSpec {
            special: None,
            against: None,
            warmup: None,
            ..CaseSpec::from_seed(1, &selection(&format!("layers = [{layer}]")))
        };
        let sampled = CaseSpec {
            sampled: true,
            ..whole.clone()
        };
        assert_eq!(whole.build().unwrap(), sampled.build().unwrap());
    }
}

/// A token of which nothing is kept has what the shared experts give.
#[test]
fn a_token_without_a_slot_gets_the_shared_experts_alone() {
    let selection = selection(&format!("{LAYERS}{OTHERS}"));
    let (mut tokens, mut others) = (0, 0);
    for seed in 0..200 {
        let spec = CaseSpec::from_seed(seed, &selection);
        if spec.special.is_some() || spec.sampled {
            continue;
        }
        let expected = expected(&spec);
        let definition = expected.definition();
        let shared = &definition.shared.as_ref().unwrap().expert_output;
        for (token, slots) in definition.kept.chunks(spec.top_k).enumerate() {
            let is_alone = definition.output.row(token) == shared.row(token);
            let is_kept = slots.contains(&true);
            assert!(is_kept || is_alone, "{spec}");
            tokens += usize::from(!is_kept);
            others += usize::from(is_kept && !is_alone);
        }
    }
    assert!(tokens > 500 && others > 1000, "{tokens} {others}");
}

#[test]
fn special_values_are_drawn_in_the_shared_experts_too() {
    let place = Special {
        value: SpecialValue::Nan,
        place: Place::Expert,
    };
    let selection = Selection {
        specials: vec![place],
        ..selection("layers = [{ shared_experts = 1 }]")
    };
    let (mut shared, mut routed) = (0, 0);
    for seed in 0..60 {
        let spec = CaseSpec::from_seed(seed, &selection);
        let expected = expected(&spec);
        let inputs = expected.inputs();
        let has_nan = |inputs: &Inputs| {
            let matrices = inputs.gate_up_proj.iter().chain(&inputs.down_proj);
            let biases = inputs.gate_up_proj_bias.iter().chain(&inputs.down_proj_bias);
            matrices.chain(biases).any(|value| value.is_nan())
        };
        let is_shared = has_nan(inputs.shared.as_ref().unwrap());
        assert!(!is_shared || Coverage::new(&expected).special_input, "{spec}");
        assert!(!is_shared || !spec.build().unwrap().is_finite(), "{spec}");
        shared += usize::from(is_shared);
        routed += usize::from(has_nan(inputs));
    }
    assert!(shared >= 5 && routed >= 20, "{shared} {routed}");
}

#[test]
fn a_domain_may_leave_out_shared_experts() {
    let domain: Domain = "layers = 'any'\nshared_experts = false".parse().unwrap();
    let spec = CaseSpec::from_seed(0, &selection("layers = ['deepseek-v3-shared']"));
    let outside = domain.admits(&spec).unwrap_err().to_string();
    assert_eq!(outside, "shared_experts: expected none, found 1");
    let asked: Domain = "layers = ['deepseek-v3', 'deepseek-v3-shared']".parse().unwrap();
    let selection = Selection {
        domain: asked.meet(&domain),
        ..Selection::default()
    };
    for seed in 0..20 {
        let drawn = CaseSpec::from_seed(seed, &selection).layer.to_string();
        assert_eq!(drawn, "deepseek-v3");
    }
    let read = Domain::from_json(&serde_json::to_string(&domain).unwrap()).unwrap();
    assert_eq!(read, domain);
}

#[test]
fn layers_that_no_case_can_have_are_refused() {
    let refused = |domain: &str| domain.parse::<Domain>().unwrap_err().to_string();
    let error = refused("layers = [{ projections = 'mxfp4', shared_experts = 1 }]");
    let expected = "shared_experts: expected 0 where projections are stored in blocks, found 1";
    assert!(error.contains(expected), "{error}");
    let error = refused("layers = [{ shared_experts = 17 }]");
    assert!(
        error.contains("shared_experts: expected at most 16, found 17"),
        "{error}"
    );
    let error = refused("layers = [{ shared_experts = -1 }]");
    assert!(error.contains("invalid value: integer `-1`"), "{error}");
    let error = refused("layers = [{ shared_experts = 4 }]\nintermediate = { min = 300000 }");
    assert_eq!(
        error,
        "domain: intermediate: expected at most 262144, for layer 4 shared, found I ≥ 300000"
    );
    // Three of an intermediate size that four could not have.
    let domain: Domain = "layers = [{ shared_experts = 3 }]\nintermediate = { min = 300000 }\nhidden = { max = 4 }"
        .parse()
        .unwrap();
    let selection = Selection {
        domain,
        ..Selection::default()
    };
    for seed in 0..30 {
        let spec = CaseSpec::from_seed(seed, &selection);
        assert_eq!(selection.domain.admits(&spec), Ok(()), "{spec}");
    }
}

#[test]
fn shared_experts_stay_in_a_smaller_case_only_where_they_matter() {
    let domain: Domain = "layers = 'any'".parse().unwrap();
    let spec = CaseSpec::from_seed(2, &selection("layers = [{ activation = 'silu', shared_experts = 2 }]"));
    let shrunk = |fails: fn(&CaseSpec) -> bool| {
        let verdict = || Verdict::Fault(Fault::refused("it fails"));
        let judge = |candidate: &CaseSpec| fails(candidate).then(verdict);
        shrink(&spec, verdict(), &domain, 2000, judge).spec.layer
    };
    assert_eq!(shrunk(|_| true), LayerSpec::default());
    let silu = LayerSpec {
        activation: ActivationKind::Silu,
        ..LayerSpec::default()
    };
    assert_eq!(shrunk(|spec| spec.layer.activation == ActivationKind::Silu), silu);
    let shared = LayerSpec {
        shared_experts: 2,
        ..LayerSpec::default()
    };
    assert_eq!(shrunk(|spec| spec.layer.shared_experts > 0), shared);
    assert_eq!(shared.to_string(), "2 shared");
}

/// An fp32 kernel that leaves a shared expert's last activation out is told in each element type.
#[test]
fn bounds_see_a_single_activation_of_the_shared_experts() {
    struct Short(ElementType);
    impl Engine for Short {
        fn name(&self) -> &str {
            "short"
        }

        fn domain(&self) -> Domain {
            Domain {
                layers: Some(Taken::Any),
                ..Domain::of(Precision::of(self.0))
            }
        }

        fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
            match problem {
                AnyProblem::F32(problem) => short(problem),
                AnyProblem::F64(problem) => short(problem),
                AnyProblem::Bf16(problem) => short(problem),
                AnyProblem::F16(problem) => short(problem),
            }
        }
    }
    for element in [ElementType::F32, ElementType::Bf16, ElementType::F16] {
        let plan = CheckPlan {
            cases: 40,
            selection: Selection {
                elements: vec![element],
                values: vec![ValueProfile::Gentle],
                ..selection("layers = ['deepseek-v3-shared']")
            },
            ..CheckPlan::default()
        };
        let summary = check_engine(&mut Short(element), &plan);
        assert!(summary.engines[0].disagree > 20, "{:?}", summary.engines[0]);
    }
}

/// Computes a problem whose shared experts have a second projection with zeros in its last row.
fn short<T: CaseElement>(problem: &Problem<T>) -> Result<Outcome, Fault> {
    let weights = problem.weights();
    let shared = weights.shared().unwrap();
    let mut down_proj = shared.down_proj().clone();
    let last = down_proj.dim().1 - 1;
    down_proj.slice_mut(ndarray::s![.., last, ..]).fill(T::ZERO);
    let shared = binned_experts_reference::ExpertWeights::new(
        shared.gate_up_proj().clone(),
        shared.gate_up_proj_bias().clone(),
        down_proj,
        shared.down_proj_bias().clone(),
    );
    let weights = (**weights).clone().with_shared(shared.map_err(Fault::refused)?);
    let short = problem.clone().with_weights(weights.map_err(Fault::refused)?);
    let trace = binned_experts_ref(&short.map_err(Fault::refused)?).map_err(Fault::refused)?;
    Ok(Outcome::output(T::narrowed(trace.output, problem.layer().output_type)))
}
