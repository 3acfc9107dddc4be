// The functions of kernels/ptx_bf16.cuh on the CPU.
#pragma once
#include "async.h"

inline unsigned to_bf16_pair(float first, float second) {
    return simt::to_bf16(first) | unsigned(simt::to_bf16(second)) << 16;
}

namespace simt {

// The 16 bytes of an array from an element on, which must be there and aligned.
template <class T>
T *chunk_of(const Array<T> &array, int64_t index) {
    constexpr int64_t ELEMENTS = 16 / sizeof(T);
    if (current->counts_accesses) current->emulator->count_access();
    array.expect(index);
    array.expect(index + ELEMENTS - 1);
    if (index % ELEMENTS != 0) fail("an access of 16 bytes begins at element %lld", static_cast<long long>(index));
    return array.data() + index;
}

}  // namespace simt

inline Chunk load_chunk(Global<const Bf16> array, int64 index) {
    Chunk chunk;
    memcpy(&chunk, simt::chunk_of(array, index), sizeof chunk);
    return chunk;
}

inline void store_chunk(Global<Bf16> array, int64 index, const Chunk &chunk) {
    memcpy(simt::chunk_of(array, index), &chunk, sizeof chunk);
}

inline void store_chunk(Global<uint64> array, int64 index, const Chunk &chunk) {
    uint64 *const words = simt::chunk_of(array, index);
    for (int i = 0; i < 2; i++) {
        simt::current->emulator->accesses.note_word(words + i);
        words[i] = chunk.words[i];
    }
}

inline int shared_int(Address address) {
    if (simt::current->counts_accesses) simt::current->emulator->count_access();
    const char *const bytes = simt::shared_bytes(address, sizeof(int));
    simt::current->emulator->accesses.note(bytes, simt::Access::read, "shared memory", address);
    int value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

inline float shared_float(Address address) {
    if (simt::current->counts_accesses) simt::current->emulator->count_access();
    float value;
    memcpy(&value, simt::shared_bytes(address, sizeof value), sizeof value);
    return value;
}

inline Chunk shared_chunk(Address address) {
    if (simt::current->counts_accesses) simt::current->emulator->count_access();
    Chunk chunk;
    memcpy(&chunk, simt::shared_bytes(address, sizeof chunk), sizeof chunk);
    return chunk;
}

inline void store_transposed(Address row, const unsigned (&values)[4], SIMT_SITE) {
    simt::store_transposed(row, values, {file, line});
}

// There is no cache here.
inline uint64 read_once() {
    return 0;
}

inline uint64 read_again() {
    return 0;
}

inline void bulk_copy_hinted(Address target, Global<const uint64> source, int64 first, unsigned words, Address barrier,
                             uint64) {
    bulk_copy(target, source, first, words, barrier);
}

inline void products_wait_but_last(SIMT_SITE) {
    simt::finish_products(1, {file, line});
}

inline void hold_wide_sums(float (&)[WIDE_SUMS]) {}

template <int LINES, int FIRST>
void product_bf16(float (&sums)[WIDE_SUMS], uint64 left, uint64 right) {
    simt::start_product({sums + FIRST, left, right, true, simt::HalfType::bf16, LINES});
}
