//! The fuzz targets' bodies on fixed bytes, so that they run without a fuzzer.

use binned_experts::fuzz;

/// Bytes that depend on a number alone.
fn bytes(mut state: u64, length: usize) -> Vec<u8> {
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn routing_agrees_on_random_bytes() {
    for seed in 0..150 {
        fuzz::routing(&bytes(seed, seed as usize % 80));
    }
}

#[test]
fn case_file_takes_goldens_and_any_damage_to_them() {
    let golden = std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/goldens/single_token.safetensors"
    ))
    .unwrap();
    fuzz::case_file(&golden);
    for seed in 0..2000u64 {
        let mut damaged = golden.clone();
        for (at, byte) in bytes(seed, 4).chunks(2).map(|pair| (usize::from(pair[0]) * 4, pair[1])) {
            damaged[at] = byte;
        }
        fuzz::case_file(&damaged);
        fuzz::case_file(&golden[..seed as usize % golden.len()]);
    }
}

#[test]
fn case_file_takes_any_text() {
    let case = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/cases/006-nan-in-token.toml"
    ))
    .unwrap();
    for (at, _) in case.char_indices() {
        fuzz::case_file(&case.as_bytes()[..at]);
        fuzz::case_file(case.replace(&case[at..at + 1], "9").as_bytes());
    }
    fuzz::case_file(case.replace("7.0", "nan").as_bytes());
}
