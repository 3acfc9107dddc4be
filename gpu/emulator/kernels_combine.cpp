// The kernels of combine.cu for the emulator.
#include "combine.cu"
#include "table.h"

KERNEL_TABLE(combine, KERNEL_ENTRY(combine))
