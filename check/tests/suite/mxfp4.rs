//! Projections of MXFP4: what is drawn, files, and what PyTorch makes of them.

use std::collections::BTreeSet;

use binned_experts_check::case::file::{case_tensors, parse_case, read_case, write_case};
use binned_experts_check::case::{Place, Routing, RoutingProfile, Special, SpecialValue, ValueProfile};
use binned_experts_check::engine::Reference;
use binned_experts_check::judge::shrink;
use binned_experts_check::oracle::Inputs;
use binned_experts_check::{CaseSpec, CheckPlan, Domain, ElementType, Tensor, Verdict, check_engine};
use ndarray::ArrayD;

use crate::common::selection;

const GPT_OSS: &str = "layers = ['gpt-oss-mxfp4']";
/// Layers with and without biases and ups.
const LAYERS: &str = "layers = ['gpt-oss-mxfp4',
    { activation = 'silu', bias = false, projections = 'mxfp4', gate_up = 'concatenated' },
    { activation = 'relu-squared', bias = false, projections = 'mxfp4' }]";

/// A small case of 2 experts, H = 64 and I = 96.
fn small(element: ElementType, values: ValueProfile) -> CaseSpec {
    CaseSpec {
        element,
        batch: 1,
        sequence: 5,
        hidden: 64,
        intermediate: 96,
        experts: 2,
        top_k: 2,
        routing: Routing::Profile(RoutingProfile::Uniform),
        values,
        special: None,
        against: None,
        warmup: None,
        order: None,
        ..CaseSpec::from_seed(0, &selection(GPT_OSS))
    }
}

/// Blocks and scales of a projection, by row.
fn rows(spec: &CaseSpec, name: &str) -> Vec<Vec<(Vec<u8>, u8)>> {
    let tensors = case_tensors(&spec.build().unwrap());
    let bytes = |name: String| match &tensors[&name] {
        Tensor::U8(bytes) => bytes.clone(),
        other => panic!("{name}: {}", other.type_name()),
    };
    let (blocks, scales): (ArrayD<u8>, ArrayD<u8>) = (bytes(format!("{name}_blocks")), bytes(format!("{name}_scales")));
    let number = scales.shape()[2];
    assert_eq!(blocks.shape(), [scales.shape(), &[16]].concat());
    let blocks = blocks.rows().into_iter().map(|row| row.to_vec());
    let all: Vec<(Vec<u8>, u8)> = blocks.zip(scales).collect();
    all.chunks(number).map(<[_]>::to_vec).collect()
}

fn codes(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| [byte & 15, byte >> 4]).collect()
}

#[test]
fn every_code_and_the_ends_of_the_scales_are_drawn() {
    for (element, ends) in [
        (ElementType::F32, [0, 252]),
        (ElementType::Bf16, [0, 252]),
        (ElementType::F16, [104, 140]),
        (ElementType::F64, [0, 254]),
    ] {
        for &values in ValueProfile::ALL {
            let spec = small(element, values);
            let all: Vec<_> = [rows(&spec, "gate_up_proj"), rows(&spec, "down_proj")].concat();
            let blocks = || all.iter().flatten();
            let scales: BTreeSet<u8> = blocks().map(|(_, scale)| *scale).collect();
            assert_eq!([*scales.first().unwrap(), *scales.last().unwrap()], ends, "{spec}");
            let is_zero = |code: &u8| code & 7 == 0;
            let zeros = blocks().filter(|(bytes, _)| codes(bytes).iter().all(is_zero)).count();
            let equal = |bytes: &[u8]| codes(bytes).windows(2).all(|pair| pair[0] == pair[1]);
            let equals = blocks().filter(|(bytes, _)| equal(bytes) && bytes[0] & 7 != 0).count();
            assert!(zeros > 20, "{zeros} blocks of zeros: {spec}");
            if matches!(values, ValueProfile::Gentle | ValueProfile::Clamping) {
                let codes: BTreeSet<u8> = blocks().flat_map(|(bytes, _)| codes(bytes)).collect();
                assert_eq!(codes.len(), 16, "{spec}");
                assert!(equals > 20, "{equals} blocks of one value: {spec}");
            }
        }
    }
}

/// A scale of the block beside shows.
#[test]
fn scales_of_neighbours_are_far_apart() {
    for name in ["gate_up_proj", "down_proj"] {
        let all = rows(&small(ElementType::Bf16, ValueProfile::Gentle), name);
        let has_values = |bytes: &[u8]| codes(bytes).iter().any(|code| code & 7 != 0);
        let (mut far, mut pairs) = (0, 0);
        for pair in all.iter().flat_map(|row| row.windows(2)) {
            if pair.iter().all(|(bytes, _)| has_values(bytes)) {
                pairs += 1;
                far += usize::from(pair[0].1.abs_diff(pair[1].1) >= 3);
            }
        }
        assert!(far * 5 > pairs, "{name}: {far} of {pairs}");
    }
}

/// Where no scale would do, the case could not be built.
#[test]
fn every_case_is_inside_and_is_read_back_as_it_was_written() {
    let selection = selection(LAYERS);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.safetensors");
    let mut layers = BTreeSet::new();
    for seed in 0..150 {
        let spec = CaseSpec::from_seed(seed, &selection);
        assert_eq!(selection.domain.admits(&spec), Ok(()), "{spec}");
        assert_eq!(spec.to_string().parse::<CaseSpec>().unwrap(), spec);
        assert_eq!([spec.hidden % 32, spec.intermediate % 32], [0, 0], "{spec}");
        layers.insert(spec.layer.to_string());
        if spec.experts * spec.hidden * spec.intermediate > 1 << 16 || spec.sampled {
            continue;
        }
        let problem = spec.build().unwrap();
        write_case(&path, &problem).unwrap();
        let read = read_case(&path).unwrap().problem;
        let (written, read) = (Inputs::new(&problem), Inputs::new(&read));
        let bits = |values: &ndarray::Array3<f64>| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&written.gate_up_proj), bits(&read.gate_up_proj), "{spec}");
        assert_eq!(bits(&written.down_proj), bits(&read.down_proj), "{spec}");
    }
    assert_eq!(layers.len(), 3);
}

/// Tokens are drawn apart from weights, so that of a sampled case is the same.
#[test]
fn a_sampled_case_has_the_same_values() {
    let spec = small(ElementType::Bf16, ValueProfile::Gentle);
    let sampled = CaseSpec {
        sampled: true,
        ..spec.clone()
    };
    assert_eq!(spec.build().unwrap(), sampled.build().unwrap());
}

/// Codes have no NaN, so biases hold it; without biases nothing does.
#[test]
fn special_values_of_an_expert_are_in_its_biases() {
    let special = Special {
        value: SpecialValue::Nan,
        place: Place::Expert,
    };
    for seed in 0..8 {
        let spec = CaseSpec {
            special: Some(special),
            seed,
            ..small(ElementType::F32, ValueProfile::Gentle)
        };
        let inputs = Inputs::new(&spec.build().unwrap());
        let biases = inputs.gate_up_proj_bias.iter().chain(&inputs.down_proj_bias);
        assert_eq!(biases.filter(|bias| bias.is_nan()).count(), 1);
    }
    let without: Domain = "layers = [{ bias = false, projections = 'mxfp4' }]".parse().unwrap();
    let ruled_out: Vec<String> = without.ruled_out().into_iter().map(|profile| profile.name()).collect();
    assert!(ruled_out.contains(&"nan-in-expert".to_owned()), "{ruled_out:?}");
}

#[test]
fn blocks_of_transformers_have_its_values() {
    for name in ["mxfp4", "mxfp4_bfloat16"] {
        let file = read_case(&crate::in_repository(&format!("tests/layers/{name}.safetensors"))).unwrap();
        let inputs = Inputs::new(&file.problem);
        for (values, theirs) in [
            (&inputs.gate_up_proj, "gate_up_proj_values"),
            (&inputs.down_proj, "down_proj_values"),
        ] {
            let theirs = file.others[theirs].to_f64();
            assert_eq!(values.len(), theirs.len());
            let differs = values
                .iter()
                .zip(&theirs)
                .filter(|(ours, theirs)| ours.to_bits() != theirs.to_bits());
            assert_eq!(differs.count(), 0, "{name}");
            assert!(theirs.iter().any(|value| value.abs() < 1e-37 && *value != 0.0));
        }
    }
}

#[test]
fn the_reference_agrees() {
    let plan = CheckPlan {
        cases: 100,
        selection: selection(LAYERS),
        ..CheckPlan::default()
    };
    check_engine(&mut Reference, &plan).assert_agrees();
}

#[test]
fn a_failing_case_shrinks_to_one_block_and_loses_the_format_where_it_can() {
    let domain: Domain = "layers = ['gpt-oss', 'gpt-oss-mxfp4']".parse().unwrap();
    let failure = || Verdict::Fault(binned_experts_check::Fault::refused("wrong"));
    let fails_with = |is_wrong: &dyn Fn(&CaseSpec) -> bool| {
        let spec = small(ElementType::Bf16, ValueProfile::Gentle);
        shrink(&spec, failure(), &domain, 2000, |spec| is_wrong(spec).then(failure)).spec
    };
    let packed = fails_with(&|spec| spec.layer.to_string() == "gpt-oss-mxfp4");
    assert_eq!([packed.hidden, packed.intermediate], [32, 32]);
    let any = fails_with(&|_| true);
    assert_eq!((any.hidden, any.intermediate, any.layer.is_default()), (1, 1, true));
}

#[test]
fn sizes_that_are_no_whole_blocks_are_refused() {
    let message = |domain: &str| domain.parse::<Domain>().unwrap_err().to_string();
    for layers in ["'gpt-oss', 'gpt-oss-mxfp4'", "'gpt-oss-mxfp4'"] {
        assert_eq!(
            message(&format!("layers = [{layers}]\nhidden = {{ max = 16 }}")),
            "domain: hidden: expected multiples of 32, for layer gpt-oss-mxfp4, found H ≤ 16"
        );
    }
    let square = "hidden = { max = 40 }\nintermediate = { min = 33, equals = 'hidden' }";
    assert!(message(&format!("{GPT_OSS}\n{square}")).starts_with("domain: intermediate: expected a size"));
    let mut spec = small(ElementType::F32, ValueProfile::Gentle);
    spec.hidden = 48;
    let error = spec.build().unwrap_err().to_string();
    assert_eq!(error, "hidden: expected a multiple of 32, found 48");
}

#[test]
fn a_file_with_wrong_blocks_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.safetensors");
    write_case(&path, &small(ElementType::F16, ValueProfile::Gentle).build().unwrap()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let at = |name: &str| 8 + header + text[name]["data_offsets"][0].as_u64().unwrap() as usize;
    let changed = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        parse_case(&path, &bytes).unwrap_err().to_string()
    };
    assert_eq!(
        changed(at("down_proj_scales"), 255),
        "down_proj_blocks[0, 0]: expected a scale of at most 254, found 255 in block 0"
    );
    assert_eq!(
        changed(at("gate_up_proj_scales"), 254),
        "gate_up_proj_blocks[0, 0]: expected values that the element type holds, found others in block 0"
    );
    let shorter =
        String::from_utf8_lossy(&bytes[8..8 + header]).replace("\"gate_up_proj_blocks\"", "\"gate_up_proj_blacks\"");
    let renamed = [&bytes[..8], shorter.as_bytes(), &bytes[8 + header..]].concat();
    let error = parse_case(&path, &renamed).unwrap_err().to_string();
    assert!(
        error.starts_with("no tensor gate_up_proj_blocks") || error.contains("gate_up_proj_blocks"),
        "{error}"
    );
}
