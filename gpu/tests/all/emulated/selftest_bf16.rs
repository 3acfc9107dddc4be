//! The emulator does what the bf16 kernels ask of it, and finds the faults that are planted in
//! `emulator/selftest_bf16.cu`.

use binned_experts_gpu::{Arg, Emulator, Machine};
use half::bf16;

use super::async_machine::{expect_publishing, launch, lines_of, report, run};
use super::common::emulator;
use super::{Test, test};

pub(super) fn tests() -> Vec<Test> {
    vec![
        test(products_of_any_height_stand_where_the_threads_expect_them),
        test(only_committed_products_but_the_last_group_are_waited_for),
        test(matrices_are_stored_transposed),
        test(chunks_are_aligned_and_within_their_array),
        test(chunks_are_published_before_they_are_copied),
        test(integers_of_shared_memory_are_ordered_by_barriers),
    ]
}

const LINES: usize = 64 + 128;
const SHARED: u32 = LINES as u32 * 128;

fn products_of_any_height_stand_where_the_threads_expect_them() {
    let value = |line: usize, depth: usize| ((line * 7 + depth * 3) as i32 % 11 - 5) as f32;
    let lines = lines_of(LINES, |line, depth| bf16::from_f32(value(line, depth)).to_bits());
    let mut emulator = emulator(2);
    for height in [8, 56, 128] {
        let kernel = launch("selftest_product_bf16", 128, SHARED);
        let heights = [("height", Arg::I64(height as i64))];
        let found = run(&mut emulator, kernel, &[0.0f32; 128 * 128], Some(&lines), &heights).unwrap();
        let mut expected = vec![0.5f32; 128 * 128];
        for row in 0..64usize {
            for column in 0..height {
                let thread = row / 16 * 32 + row % 8 * 4 + column % 8 / 2;
                let sum = 64 + column / 8 * 4 + row % 16 / 8 * 2 + column % 2;
                let products = (0..16).map(|depth| value(row, depth) * value(64 + column, depth));
                expected[thread * 128 + sum] += products.sum::<f32>();
            }
        }
        assert!(found == expected, "height {height}");
    }
}

fn only_committed_products_but_the_last_group_are_waited_for() {
    let lines = lines_of(LINES, |_, _| bf16::ONE.to_bits());
    let kernel = launch("selftest_groups_of_products", 128, SHARED);
    let found = run(&mut emulator(3), kernel, &[0.0f32; 3 * 128], Some(&lines), &[]).unwrap();
    for (groups, found) in found.chunks(128).enumerate() {
        assert_eq!(found, [16.0 * (groups + 1) as f32; 128], "{groups}");
    }
}

fn matrices_are_stored_transposed() {
    // Element (row, column) of matrix i is 64 i + 8 row + column; its columns go to places in reverse.
    let pair = |matrix: u16, row: u16, column: u16| {
        let first = u32::from(64 * matrix + 8 * row + column);
        (first | (first + 1) << 16) as i32
    };
    let lanes = (0..32u16).flat_map(|lane| (0..4).map(move |matrix| pair(matrix, lane / 4, lane % 4 * 2)));
    let values: Vec<i32> = lanes.collect();
    let places: Vec<i32> = (0..32).rev().collect();
    for seed in 0..10 {
        let mut emulator = emulator(seed);
        let buffer = |emulator: &mut Emulator, values: &[i32]| {
            let mut buffer = emulator.alloc(size_of_val(values)).unwrap();
            emulator.upload(&mut buffer, bytemuck::cast_slice(values)).unwrap();
            buffer
        };
        let (of_values, of_places) = (buffer(&mut emulator, &values), buffer(&mut emulator, &places));
        let more = [
            ("values", Arg::Buffer(&of_values, 512)),
            ("places", Arg::Buffer(&of_places, 128)),
        ];
        let kernel = launch("selftest_transposed", 32, 0);
        let found = run(&mut emulator, kernel, &[0i32; 128], None, &more).unwrap();
        let found: &[u16] = bytemuck::cast_slice(&found);
        for (place, found) in found.chunks(8).enumerate() {
            let (matrix, column) = ((31 - place as u16) / 8, (31 - place as u16) % 8);
            let expected: Vec<u16> = (0..8).map(|row| 64 * matrix + 8 * row + column).collect();
            assert_eq!(found, expected, "place {place}");
        }
    }
}

fn chunks_are_aligned_and_within_their_array() {
    let values: Vec<u16> = (0..24).collect();
    let mut emulator = emulator(1);
    let mut chunk = |first| {
        let kernel = launch("selftest_chunk", 1, 0);
        run(&mut emulator, kernel, &values, None, &[("first", Arg::I64(first))])
    };
    assert_eq!(chunk(8).unwrap()[16..], values[8..16]);
    let misaligned = report(chunk(4));
    assert!(
        misaligned.contains("an access of 16 bytes begins at element 4"),
        "{misaligned}"
    );
    let beyond = report(chunk(24));
    assert!(beyond.contains("out of bounds: results[24] of length 24"), "{beyond}");
    let partly = report(chunk(20));
    assert!(partly.contains("out of bounds: results[27] of length 24"), "{partly}");
}

fn chunks_are_published_before_they_are_copied() {
    expect_publishing(
        "selftest_published_chunks",
        32,
        &std::array::from_fn(|word| 7 + word as u64 % 2),
    );
}

fn integers_of_shared_memory_are_ordered_by_barriers() {
    let before: Vec<i32> = (0..64).map(|thread| (thread + 63) % 64 + 1).collect();
    for seed in 0..20 {
        let mut emulator = emulator(seed);
        let mut shared = |waits| {
            let kernel = launch("selftest_shared_int", 64, 0);
            run(&mut emulator, kernel, &[0i32; 64], None, &[("waits", Arg::I64(waits))])
        };
        assert_eq!(shared(1).unwrap(), before, "seed {seed}");
        let race = report(shared(0));
        let names_either = race.contains("race: shared memory[") || race.contains("race: values[");
        assert!(names_either, "{race}");
    }
}
