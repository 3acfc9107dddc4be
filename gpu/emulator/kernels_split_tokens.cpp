// The kernels of split_tokens.cu for the emulator.
#include "split_tokens.cu"
#include "table.h"

KERNEL_TABLE(split_tokens, KERNEL_ENTRY(split_tokens), KERNEL_ENTRY(mark_fallback_rows))
