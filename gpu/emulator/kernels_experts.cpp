// The kernels of experts.cu for the emulator.
#include "experts.cu"
#include "table.h"

KERNEL_TABLE(experts, KERNEL_ENTRY(experts))
