// The kernels of experts_bf16.cu for the emulator.
#include "experts_bf16.cu"
#include "table.h"

using bf16::experts_bf16;

KERNEL_TABLE(experts_bf16, KERNEL_ENTRY(experts_bf16))
