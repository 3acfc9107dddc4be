//! Every bad input gives its own error, which says what was expected and what was found.

use std::path::Path;

use binned_experts_check::case::file::{FileError, read_case, write_case};
use binned_experts_check::{AnyProblem, CaseSpec, SpecError};
use binned_experts_reference::{
    Bins, Error, ExpertWeights, Problem, binned_gather, binned_scatter, down, expert_capacity, gate_up, select_weights,
    sort_tokens_by_expert,
};
use ndarray::{Array1, Array2, Array3, array};

/// T 4, H 3, I 2, E 5, K 2.
fn weights() -> ExpertWeights<f32> {
    let (gate_up, down) = (Array3::zeros((5, 3, 4)), Array3::zeros((5, 2, 3)));
    ExpertWeights::new(gate_up, Array2::zeros((5, 4)), down, Array2::zeros((5, 3))).unwrap()
}

fn problem(hidden: [usize; 3], indices: [usize; 2], routing: [usize; 3]) -> Result<Problem<f32>, Error> {
    Problem::new(
        Array3::zeros(hidden),
        Array2::zeros(indices),
        Array3::zeros(routing),
        weights(),
        2,
    )
}

fn shape(tensor: &'static str, expected: &[usize], found: &[usize]) -> Error {
    Error::Shape {
        tensor,
        expected: expected.to_vec(),
        found: found.to_vec(),
    }
}

#[test]
fn weights_that_do_not_fit_one_another() {
    let new = |gate_up: [usize; 3], gate_up_bias: [usize; 2], down: [usize; 3], down_bias: [usize; 2]| {
        let (gate_up, down) = (Array3::<f32>::zeros(gate_up), Array3::zeros(down));
        ExpertWeights::new(gate_up, Array2::zeros(gate_up_bias), down, Array2::zeros(down_bias)).unwrap_err()
    };
    assert_eq!(new([5, 3, 5], [5, 5], [5, 2, 3], [5, 3]), Error::OddGateUp { found: 5 });
    assert_eq!(
        new([5, 3, 4], [4, 4], [5, 2, 3], [5, 3]),
        shape("gate_up_proj_bias", &[5, 4], &[4, 4])
    );
    assert_eq!(
        new([5, 3, 4], [5, 4], [5, 4, 3], [5, 3]),
        shape("down_proj", &[5, 2, 3], &[5, 4, 3])
    );
    assert_eq!(
        new([5, 3, 4], [5, 4], [5, 3, 2], [5, 3]),
        shape("down_proj", &[5, 2, 3], &[5, 3, 2])
    );
    assert_eq!(
        new([5, 3, 4], [5, 4], [5, 2, 3], [5, 2]),
        shape("down_proj_bias", &[5, 3], &[5, 2])
    );
}

#[test]
fn inputs_that_do_not_fit_the_weights() {
    assert!(problem([2, 2, 3], [4, 2], [2, 2, 5]).is_ok());
    let error = |hidden, indices, routing| problem(hidden, indices, routing).unwrap_err();
    assert_eq!(
        error([2, 2, 4], [4, 2], [2, 2, 5]),
        shape("hidden_states", &[2, 2, 3], &[2, 2, 4])
    );
    assert_eq!(
        error([2, 2, 3], [3, 2], [2, 2, 5]),
        shape("router_indices", &[4, 2], &[3, 2])
    );
    assert_eq!(
        error([2, 2, 3], [4, 2], [2, 2, 4]),
        shape("routing_weights", &[2, 2, 5], &[2, 2, 4])
    );
    assert_eq!(
        error([2, 2, 3], [4, 2], [4, 1, 5]),
        shape("routing_weights", &[2, 2, 5], &[4, 1, 5])
    );
    assert_eq!(error([2, 2, 3], [4, 0], [2, 2, 5]), Error::ZeroTopK);
}

#[test]
fn no_tokens_are_not_an_error() {
    for hidden in [[0, 2, 3], [2, 0, 3], [0, 0, 3]] {
        assert!(problem(hidden, [0, 2], [hidden[0], hidden[1], 5]).is_ok());
    }
    assert_eq!(problem([0, 2, 3], [0, 0], [0, 2, 5]).unwrap_err(), Error::ZeroTopK);
}

#[test]
fn experts_that_do_not_exist() {
    for expert in [-1, 5, i64::MIN, i64::MAX] {
        let mut ids = Array2::zeros((4, 2));
        ids[[2, 1]] = expert;
        let error = Problem::new(
            Array3::<f32>::zeros((2, 2, 3)),
            ids,
            Array3::zeros((2, 2, 5)),
            weights(),
            2,
        )
        .unwrap_err();
        assert_eq!(
            error,
            Error::ExpertOutOfRange {
                token: 2,
                slot: 1,
                expert,
                experts: 5
            }
        );
    }
}

#[test]
fn capacities_that_cannot_be_computed() {
    assert_eq!(expert_capacity(4, 0, 2).unwrap_err(), Error::NoExperts);
    let overflow = Error::SizeOverflow {
        what: "expert capacity",
        sizes: vec![usize::MAX, 2, 2],
    };
    assert_eq!(expert_capacity(usize::MAX, 3, 2).unwrap_err(), overflow);
    assert_eq!(expert_capacity(512, 4, 2), Ok(512));
}

#[test]
fn stages_whose_arguments_do_not_fit() {
    let bins = sort_tokens_by_expert(array![[0, 1], [2, 1]].view(), 5).unwrap();
    let x = Array2::<f32>::ones((2, 3));
    let gathered = binned_gather(x.view(), &bins, 2, 2).unwrap();
    assert_eq!(binned_gather(x.view(), &bins, 2, 0).unwrap_err(), Error::ZeroTopK);
    assert_eq!(
        binned_gather(x.view(), &bins, 2, 3).unwrap_err(),
        shape("sorted_indices", &[6], &[4])
    );

    let narrow = binned_gather(Array2::<f32>::ones((2, 2)).view(), &bins, 2, 2).unwrap();
    assert_eq!(
        gate_up(&narrow, &weights()).unwrap_err(),
        shape("gate_up", &[4, 3], &[4, 2])
    );
    assert_eq!(
        down(&gathered, &weights()).unwrap_err(),
        shape("down", &[4, 2], &[4, 3])
    );
    let fewer = sort_tokens_by_expert(array![[0, 1], [2, 1]].view(), 3).unwrap();
    let of_fewer = binned_gather(x.view(), &fewer, 2, 2).unwrap();
    assert_eq!(
        gate_up(&of_fewer, &weights()).unwrap_err(),
        shape("experts", &[5], &[3])
    );

    let scatter = |bins: &Bins, weights: usize, capacity, top_k| {
        binned_scatter::<_, f32, f32>(&gathered, bins, &Array1::zeros(weights), capacity, top_k).unwrap_err()
    };
    assert_eq!(scatter(&bins, 4, 2, 0), Error::ZeroTopK);
    assert_eq!(scatter(&bins, 4, 2, 3), shape("sorted_indices", &[3], &[4]));
    assert_eq!(scatter(&bins, 3, 2, 2), shape("weights", &[4], &[3]));
    assert_eq!(scatter(&bins, 4, 1, 2), shape("expert rows", &[1, 3], &[2, 3]));
    assert_eq!(scatter(&fewer, 4, 2, 2), shape("experts", &[3], &[5]));

    let routing = Array2::<f32>::zeros((2, 2));
    let error = select_weights(routing.view(), array![[0, 2], [0, 0]].view()).unwrap_err();
    assert_eq!(
        error,
        Error::ExpertOutOfRange {
            token: 0,
            slot: 1,
            expert: 2,
            experts: 2
        }
    );
    let error = select_weights(routing.view(), array![[0]].view()).unwrap_err();
    assert_eq!(error, shape("router_indices", &[2, 1], &[1, 1]));
    assert_eq!(gathered.padded(1).unwrap_err(), shape("padded", &[2, 3], &[1, 3]));
    let overflow = Error::SizeOverflow {
        what: "padded",
        sizes: vec![5, usize::MAX, 3],
    };
    assert_eq!(gathered.padded(usize::MAX).unwrap_err(), overflow);
}

#[test]
fn orders_that_no_sort_gives() {
    let problem = problem([2, 2, 3], [4, 2], [2, 2, 5]).unwrap();
    let error = problem.clone().with_order(vec![0; 7]).unwrap_err();
    assert_eq!(error, Error::OrderLength { expected: 8, found: 7 });
    let error = problem.with_order(vec![0; 8]).unwrap_err();
    assert_eq!(
        error,
        Error::OrderRepeats {
            position: 1,
            assignment: 0
        }
    );
}

const SPEC: &str = "element = 'f32'\nbatch = 1\nsequence = 3\nhidden = 4\nintermediate = 2\nexperts = 2\ntop_k = 1\n\
    capacity = 1\nalpha = 1.702\nlimit = 7.0\nseed = 1\nrouting = [[1], [0], [1]]\nvalues = 'gentle'\n\
    weights = 'normalised'\n";

fn spec_error(from: &str, to: &str) -> SpecError {
    assert!(SPEC.contains(from), "{from}");
    let text = SPEC.replacen(from, to, 1);
    text.parse::<CaseSpec>().and_then(|spec| spec.build()).unwrap_err()
}

#[test]
fn texts_that_are_not_cases() {
    let changes = [
        ("element = 'f32'", "element = 'f8'"),
        ("batch = 1", "batch = -1"),
        ("batch = 1", "batch = 1\ncolour = 'red'"),
        ("seed = 1", "seed = 4294967296"),
        ("'gentle'", "'rough'"),
        ("weights = 'normalised'", ""),
        ("[[1], [0], [1]]", "'somehow'"),
        ("seed = 1", "seed = 1\nspecial = 'nan-in-space'"),
        ("alpha = 1.702", "alpha = "),
    ];
    for (from, to) in changes {
        assert!(matches!(spec_error(from, to), SpecError::Syntax { .. }), "{to}");
    }
}

#[test]
fn specs_that_cannot_be_built() {
    let large = |what, limit, found| SpecError::TooLarge { what, limit, found };
    assert_eq!(
        spec_error("hidden = 4", "hidden = 9223372036854775807"),
        large("hidden", 1 << 20, i64::MAX as usize)
    );
    assert_eq!(
        spec_error("batch = 1", "batch = 1048576"),
        large("tokens", 1 << 20, 3 << 20)
    );
    assert_eq!(
        spec_error(
            "hidden = 4\nintermediate = 2",
            "hidden = 1048576\nintermediate = 1048576"
        ),
        large("gate_up_proj", 1 << 28, 1 << 42)
    );
    let misfit = |found: &str| SpecError::RoutingShape {
        tokens: 3,
        top_k: 1,
        found: found.to_owned(),
    };
    assert_eq!(spec_error("[[1], [0], [1]]", "[[1], [0]]"), misfit("2 rows"));
    assert_eq!(
        spec_error("[[1], [0], [1]]", "[[1], [0, 1], [1]]"),
        misfit("2 ids in row 1")
    );
    let error = spec_error("[[1], [0], [1]]", "[[1], [0], [2]]");
    assert_eq!(
        error,
        SpecError::Problem(Error::ExpertOutOfRange {
            token: 2,
            slot: 0,
            expert: 2,
            experts: 2
        })
    );
    assert_eq!(
        spec_error("experts = 2", "experts = 0"),
        SpecError::Problem(Error::NoExperts)
    );
    assert_eq!(
        spec_error("top_k = 1", "top_k = 0").to_string(),
        "routing: expected 3 rows of 0 ids, found 1 ids in row 0"
    );
}

/// A safetensors file by hand: name, type and shape of each tensor, and zeros for values.
fn file(tensors: &[(&str, &str, &[usize])], metadata: &str) -> Vec<u8> {
    let mut offset = 0;
    let entries: Vec<String> = tensors
        .iter()
        .map(|(name, dtype, shape)| {
            let size = match *dtype {
                "F64" | "I64" => 8,
                "F32" | "I32" => 4,
                _ => 2,
            };
            let start = offset;
            offset += shape.iter().product::<usize>() * size;
            format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{offset}]}}"#)
        })
        .collect();
    let header = format!(r#"{{"__metadata__":{{{metadata}}},{}}}"#, entries.join(","));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + offset, 0);
    bytes
}

type Entry = (&'static str, &'static str, &'static [usize]);

const TENSORS: [Entry; 7] = [
    ("hidden_states", "F32", &[2, 2, 3]),
    ("router_indices", "I64", &[4, 2]),
    ("routing_weights", "F32", &[2, 2, 5]),
    ("gate_up_proj", "F32", &[5, 3, 4]),
    ("gate_up_proj_bias", "F32", &[5, 4]),
    ("down_proj", "F32", &[5, 2, 3]),
    ("down_proj_bias", "F32", &[5, 3]),
];

const CAPACITY: &str = r#""expert_capacity":"3""#;

fn read(bytes: &[u8]) -> Result<AnyProblem, FileError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("case.safetensors");
    std::fs::write(&path, bytes).unwrap();
    read_case(&path).map(|file| file.problem)
}

/// The error's text for a file with one entry replaced, or left out.
fn text_with(name: &str, entry: Option<Entry>) -> String {
    let tensors: Vec<Entry> = TENSORS
        .into_iter()
        .filter_map(|known| if known.0 == name { entry } else { Some(known) })
        .collect();
    read(&file(&tensors, CAPACITY)).unwrap_err().to_string()
}

#[test]
fn a_file_by_hand_reads() {
    let problem = read(&file(&TENSORS, CAPACITY)).unwrap();
    assert_eq!(problem.dims().capacity, 3);
    let AnyProblem::F32(problem) = problem else {
        panic!("an f32 case")
    };
    assert_eq!((problem.activation().alpha, problem.activation().limit), (1.702, 7.0));
}

#[test]
fn files_with_a_tensor_that_is_missing_or_wrong() {
    for (name, _, _) in TENSORS {
        let text = text_with(name, None);
        assert!(
            text.starts_with(&format!("{name}: expected a tensor of this name, found ")),
            "{text}"
        );
    }
    let cases: [(&str, Entry, &str); 8] = [
        (
            "hidden_states",
            ("hidden_states", "I64", &[2, 2, 3]),
            "hidden_states: expected f32, f64, bf16 or f16, found i64",
        ),
        (
            "hidden_states",
            ("hidden_states", "F32", &[4, 3]),
            "hidden_states: expected [B,S,H], found shape [4, 3]",
        ),
        (
            "router_indices",
            ("router_indices", "F32", &[4, 2]),
            "router_indices: expected i64, found f32",
        ),
        (
            "router_indices",
            ("router_indices", "I32", &[4, 2]),
            "router_indices: expected f32, f64, bf16, f16 or i64, found I32",
        ),
        (
            "router_indices",
            ("router_indices", "I64", &[8]),
            "router_indices: expected [B·S,K], found shape [8]",
        ),
        (
            "down_proj",
            ("down_proj", "F16", &[5, 2, 3]),
            "down_proj: expected f32, found f16",
        ),
        (
            "down_proj",
            ("down_proj", "F32", &[5, 3, 2]),
            "down_proj: expected shape [5, 2, 3], found [5, 3, 2]",
        ),
        (
            "gate_up_proj",
            ("gate_up_proj", "F32", &[5, 3, 5]),
            "gate_up_proj: expected an even last axis (2·intermediate), found 5",
        ),
    ];
    for (name, entry, expected) in cases {
        assert_eq!(text_with(name, Some(entry)), expected);
    }
}

#[test]
fn files_with_metadata_that_is_missing_or_wrong() {
    let text = |metadata: &str| read(&file(&TENSORS, metadata)).unwrap_err().to_string();
    assert_eq!(
        text(""),
        "metadata expert_capacity: expected a whole number, found nothing"
    );
    for bad in ["-1", "2.5", "many", ""] {
        let expected = format!("metadata expert_capacity: expected a whole number, found {bad}");
        assert_eq!(text(&format!(r#""expert_capacity":"{bad}""#)), expected);
    }
    assert_eq!(
        text(&format!(r#"{CAPACITY},"alpha":"x""#)),
        "metadata alpha: expected a number, found x"
    );
    assert_eq!(
        text(&format!(r#"{CAPACITY},"limit":"y""#)),
        "metadata limit: expected a number, found y"
    );
}

#[test]
fn files_with_a_bad_explicit_order() {
    let with = |entry: Entry| {
        let tensors: Vec<Entry> = TENSORS.into_iter().chain([entry]).collect();
        read(&file(&tensors, CAPACITY)).unwrap_err().to_string()
    };
    assert_eq!(
        with(("sorted_indices", "F32", &[8])),
        "sorted_indices: expected i64, found f32"
    );
    assert_eq!(
        with(("sorted_indices", "I64", &[7])),
        "order: expected 8 assignments, found 7"
    );
    assert_eq!(
        with(("sorted_indices", "I64", &[8])),
        "order[1]: assignment 0 stands at an earlier position too"
    );
}

#[test]
fn files_that_are_cut_off_or_hostile() {
    let whole = file(&TENSORS, CAPACITY);
    for length in (0..whole.len()).step_by(7) {
        assert!(
            matches!(read(&whole[..length]), Err(FileError::Format { .. })),
            "cut at {length}"
        );
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert!(matches!(read(&longer), Err(FileError::Format { .. })));
    let header = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let hostile: [&[u8]; 6] = [
        &u64::MAX.to_le_bytes(),
        &header("{"),
        &header("[]"),
        &header(
            r#"{"hidden_states":{"dtype":"F32","shape":[18446744073709551615,18446744073709551615],"data_offsets":[0,4]}}"#,
        ),
        &header(r#"{"hidden_states":{"dtype":"F32","shape":[1,1,1],"data_offsets":[4,0]}}"#),
        &header(r#"{"hidden_states":{"dtype":"F32","shape":[1,1,1],"data_offsets":[0,18446744073709551615]}}"#),
    ];
    for bytes in hostile {
        assert!(matches!(read(bytes), Err(FileError::Format { .. })));
    }
    let empty_but_huge = header(
        r#"{"hidden_states":{"dtype":"F32","shape":[0,9223372036854775807,9223372036854775807],"data_offsets":[0,0]}}"#,
    );
    assert!(read(&empty_but_huge).is_err());
}

#[test]
fn files_that_are_not_there_or_cannot_be_written() {
    let missing = Path::new("/nonexistent/case.safetensors");
    assert!(matches!(read_case(missing), Err(FileError::Io { .. })));
    let problem = SPEC.parse::<CaseSpec>().unwrap().build().unwrap();
    assert!(matches!(write_case(missing, &problem), Err(FileError::Io { .. })));
}

#[test]
fn written_cases_read_back_the_same() {
    for element in ["f32", "f64", "bf16", "f16"] {
        let text = SPEC
            .replace("f32", element)
            .replace("alpha = 1.702", "alpha = 0.5")
            .replace("limit = 7.0", "limit = 0.1");
        let problem = text.parse::<CaseSpec>().unwrap().build().unwrap();
        for problem in [problem.clone(), problem.with_order(vec![1, 2, 0]).unwrap()] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("case.safetensors");
            write_case(&path, &problem).unwrap();
            assert_eq!(read_case(&path).unwrap().problem, problem);
        }
    }
}
