// The kernels of pack.cu for the emulator.
#include "pack.cu"
#include "table.h"

KERNEL_TABLE(pack, KERNEL_ENTRY(pack_weights))
