// The kernels of route.cu for the emulator.
#include "route.cu"
#include "table.h"

KERNEL_TABLE(route,
             KERNEL_ENTRY(count_assignments),
             KERNEL_ENTRY(scan_bins),
             KERNEL_ENTRY(rank_assignments),
             KERNEL_ENTRY(place_order))
