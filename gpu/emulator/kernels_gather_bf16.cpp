// The kernels of gather_bf16.cu for the emulator.
#include "gather_bf16.cu"
#include "table.h"

using bf16::gather_bf16;
using bf16::route_gather_bf16;

KERNEL_TABLE(gather_bf16, KERNEL_ENTRY(gather_bf16), KERNEL_ENTRY(route_gather_bf16))
