"""candle: moe_gemm_wmma of candle-kernels, once for each of the two products (huggingface/candle; tried: 2a13b0f).

    git clone https://github.com/huggingface/candle $PUBLISHED_SOURCES/candle
    candle.py bf16|f16 [decode]

Domain. It takes bf16 and f16. It reads eight values at once and says that the depth is a multiple of 8: so H and I are.
It has no capacity. Without rows its count of them is launched with no block, so T is at least 1. For decoding it counts
in one block, for at most 1,024 experts.
Sort, biases, activation and weighted sum are the adapter's. The kernel can scale a row by its routing weight, but the
function has a bias between the product and the weight, so both products are called without. nvcc compiles the file as
it stands into a library.
"""

import ctypes
import os
import subprocess
import sys

import torch
from adapter import build_folder, commit, serve, source

PRECISION = "f16" if "f16" in sys.argv else "bf16"
IS_PREFILL = "decode" not in sys.argv
DOMAIN = {
    "precision": [PRECISION],
    "tokens": {"min": 1},
    "hidden": {"multiple_of": 8},
    "intermediate": {"multiple_of": 8},
    "drops": False,
}
if not IS_PREFILL:
    DOMAIN["experts"] = {"max": 1024}


def build():
    library = os.path.join(build_folder("candle"), "moe_wmma.so")
    if not os.path.exists(library):
        file = source("candle", "candle-kernels/src/moe/moe_wmma.cu")
        target = "-arch=sm_%d%d" % torch.cuda.get_device_capability()
        part = f"{library}.{os.getpid()}"
        nvcc = ["nvcc", "-O3", "-std=c++17", target, "-shared", "-Xcompiler", "-fPIC", "-o", part, file]
        subprocess.run(nvcc, check=True, stdout=sys.stderr)
        os.rename(part, library)
    return ctypes.CDLL(library).moe_gemm_wmma


moe_gemm_wmma = build()


def moe_gemm(x, weights, order, experts, top_k):
    """[T·K,out] by flat index, of x [T·K / top_k,in] and weights [E,out,in]."""
    rows, (number, width, depth) = len(order), weights.shape
    output = torch.empty(rows, width, dtype=x.dtype, device=x.device)
    counts = torch.empty(number, dtype=torch.int32, device=x.device)
    offsets = torch.empty(number + 1, dtype=torch.int32, device=x.device)
    tensors = (x, weights, order, experts, None, output, counts, offsets)
    pointers = [ctypes.c_void_p(None if tensor is None else tensor.data_ptr()) for tensor in tensors]
    is_bf16 = int(x.dtype == torch.bfloat16)
    sizes = [ctypes.c_int(size) for size in (number, top_k, rows, width, depth, is_bf16)]
    stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
    moe_gemm_wmma(*pointers, *sizes, ctypes.c_bool(IS_PREFILL), stream)
    return output


def pack(weights):
    """The weights by [out,in], and the biases."""
    up, down = (weight.transpose(1, 2).contiguous() for weight in (weights.gate_up_proj, weights.down_proj))
    return up, weights.gate_up_proj_bias, down, weights.down_proj_bias


def forward(case, packed):
    up, up_bias, down, down_bias = packed
    order, experts, _ = case.by_expert()
    order, experts, chosen = order.int(), experts.int(), case.indices.flatten()
    gate_up = moe_gemm(case.x, up, order, experts, case.top_k) + up_bias[chosen]
    activated = case.activate(gate_up).contiguous()
    rows = moe_gemm(activated, down, order, experts, 1) + down_bias[chosen]
    return case.combine(rows)


stage = "prefill" if IS_PREFILL else "decode"
serve(f"candle-{PRECISION}-{stage}-{commit('candle')}", DOMAIN, pack, forward)
