// The functions of kernels/ptx.cuh on the CPU.
//
// Copies land and products are computed as late as the rules allow: a copy whenever it is drawn, a product
// when its warpgroup waits for it. So a slot that is given back too early, sums that are read too early or a barrier
// that counts too little show as wrong results. The tensor cores' arithmetic is theirs as far as it is known: products
// are exact, and each addition of 16 of them is truncated to f32.
#pragma once
#include "async_machine.h"
#include "half.h"
#include "simt.h"

template <class T>
Address shared_address(const Shared<T> &array) {
    return simt::shared_offset(array.data());
}

// Here a kernel starts when the one before it has ended.
inline void wait_for_earlier_kernels() {}

inline void let_next_kernel_start() {}

inline float at_most(float value, float upper) {
    return value <= upper || value != value ? value : upper;
}

inline float at_least(float value, float lower) {
    return value >= lower || value != value ? value : lower;
}

inline float fast_exp2(float x) {
    const float power = exp2f(x);
    return power < 0x1p-126f ? 0.0f : power;
}

inline float fast_reciprocal(float x) {
    const float reciprocal = 1.0f / x;
    return fabsf(reciprocal) < 0x1p-126f ? 0.0f : reciprocal;
}

inline void barrier_init(Address barrier, unsigned arrivals) {
    simt::phase_barrier(barrier) = {0, arrivals, arrivals, 0};
}

inline void barrier_init_fence() {}

inline void barrier_arrive(Address barrier, SIMT_SITE) {
    simt::arrive(barrier, 0, {file, line});
}

inline void barrier_arrive_expecting(Address barrier, unsigned bytes, SIMT_SITE) {
    simt::arrive(barrier, bytes, {file, line});
}

inline void barrier_wait(Address barrier, unsigned parity, SIMT_SITE) {
    simt::wait_for_phase(barrier, parity & 1, {file, line});
}

inline void bulk_copy(Address target, Global<const uint64> source, int64 first, unsigned words, Address barrier) {
    // The first and the last index are checked; those between are in between.
    const uint64 *from = &source[first];
    if (words > 0) (void)source[first + words - 1];
    simt::start_copy(target, from, words * sizeof(uint64), barrier);
}

inline void fence() {}

inline void publish() {
    simt::current->emulator->accesses.publish_words();
}

// An atomic lets others run before it, so what follows it is one step with it.
inline int signal_and_count(Global<int> counters, int64 index) {
    const int before = atomicAdd(&counters[index], 1);
    simt::current->emulator->accesses.release_left();
    return before;
}

inline void signal(Global<int> counters, int64 index) {
    signal_and_count(counters, index);
}

inline void leave_quad(Global<float> array, int64 index, const Quad &quad) {
    store_quad(array, index, 4, quad);
    simt::current->emulator->accesses.note_left(&array[index]);
}

inline Quad left_quad(Global<float> array, int64 index) {
    simt::current->emulator->accesses.expect_released(&array[index], "values left for other blocks", index);
    return load_quad(array, index, 4);
}

inline void wait_for_signals(Global<int> counters, int64 index, int count, SIMT_SITE) {
    while (*(&counters[index]).address < count) simt::current->emulator->spin({file, line});
}

inline void group_arrive(int id, int threads, SIMT_SITE) {
    simt::meet_group(unsigned(id), unsigned(threads), false, {file, line});
}

inline void group_wait(int id, int threads, SIMT_SITE) {
    simt::meet_group(unsigned(id), unsigned(threads), true, {file, line});
}

template <int COUNT>
void release_registers() {}

template <int COUNT>
void claim_registers() {}

inline void product_64x192x16(float (&sums)[PRODUCT_SUMS], uint64 left, uint64 right, bool adds) {
    simt::start_product({sums, left, right, adds, simt::HalfType::f16, 192});
}

inline void product_fence() {}

inline void products_commit() {
    simt::commit_products();
}

inline void products_wait(SIMT_SITE) {
    simt::finish_products(0, {file, line});
}

inline void hold_sums(float (&)[PRODUCT_SUMS]) {}

inline unsigned to_halves(float first, float second) {
    return simt::to_half(first) | unsigned(simt::to_half(second)) << 16;
}

inline float first_half(unsigned halves) {
    return simt::from_half(uint16_t(halves));
}

inline float second_half(unsigned halves) {
    return simt::from_half(uint16_t(halves >> 16));
}

inline void store_pair(Global<float> array, int64 index, float first, float second) {
    array[index] = first;
    array[index + 1] = second;
}
