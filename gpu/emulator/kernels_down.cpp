// The kernels of down.cu for the emulator.
#include "down.cu"
#include "table.h"

KERNEL_TABLE(down, KERNEL_ENTRY(down))
