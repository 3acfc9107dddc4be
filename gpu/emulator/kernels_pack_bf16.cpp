// The kernels of pack_bf16.cu for the emulator.
#include "pack_bf16.cu"
#include "table.h"

using bf16::pack_weights_bf16;

KERNEL_TABLE(pack_bf16, KERNEL_ENTRY(pack_weights_bf16))
