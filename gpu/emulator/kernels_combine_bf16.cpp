// The kernels of combine_bf16.cu for the emulator.
#include "combine_bf16.cu"
#include "table.h"

using bf16::combine_bf16;

KERNEL_TABLE(combine_bf16, KERNEL_ENTRY(combine_bf16))
