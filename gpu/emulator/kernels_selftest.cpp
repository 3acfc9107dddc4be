// Kernels with planted faults, for the tests of the emulator.
#ifdef SIMT_SELFTEST
#include "selftest.cu"
#include "selftest_async.cu"
#include "selftest_bf16.cu"
#include "table.h"

KERNEL_TABLE(selftest,
             KERNEL_ENTRY(selftest_collectives),
             KERNEL_ENTRY(selftest_missing_barrier),
             KERNEL_ENTRY(selftest_divergent_barrier),
             KERNEL_ENTRY(selftest_barrier_against_collective),
             KERNEL_ENTRY(selftest_returned_lane),
             KERNEL_ENTRY(selftest_read),
             KERNEL_ENTRY(selftest_shared_index),
             KERNEL_ENTRY(selftest_shared_poison),
             KERNEL_ENTRY(selftest_atomic_sum),
             KERNEL_ENTRY(selftest_plain_sum),
             KERNEL_ENTRY(selftest_racing_bins),
             KERNEL_ENTRY(selftest_order),
             KERNEL_ENTRY(selftest_counters),
             KERNEL_ENTRY(selftest_copies),
             KERNEL_ENTRY(selftest_publish),
             KERNEL_ENTRY(selftest_livelock),
             KERNEL_ENTRY(selftest_groups),
             KERNEL_ENTRY(selftest_product),
             KERNEL_ENTRY(selftest_product_bf16),
             KERNEL_ENTRY(selftest_groups_of_products),
             KERNEL_ENTRY(selftest_transposed),
             KERNEL_ENTRY(selftest_chunk),
             KERNEL_ENTRY(selftest_published_chunks),
             KERNEL_ENTRY(selftest_shared_int))
#endif
