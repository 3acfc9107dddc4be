// The kernels of gate_up.cu for the emulator.
#include "gate_up.cu"
#include "table.h"

KERNEL_TABLE(gate_up, KERNEL_ENTRY(gate_up))
