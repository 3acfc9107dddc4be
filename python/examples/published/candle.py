"""candle: ``moe_gemm_wmma``, once for each of the two products (clone of huggingface/candle; tried: 2a13b0f; nvcc).

Domain. It takes bf16 and f16. It reads eight values at once and says that the depth is a multiple of 8: so H and I are.
It has no capacity. For decoding it counts in one block, for at most 1,024 experts.
Sort, activation and the sum over the slots are PyTorch's; the routing weight is its own. nvcc compiles the file as it
stands into a library.
"""

import ctypes
import os
import subprocess
import sys
from functools import partial

import torch

from ._checks import Check
from ._layers import OUT_IN
from ._sources import build_folder, source, version
from ._torch import by_expert, gated

PROJECT = "huggingface/candle"


def build():
    library = os.path.join(build_folder(PROJECT), "moe_wmma.so")
    if not os.path.exists(library):
        target = "-arch=sm_%d%d" % torch.cuda.get_device_capability()
        part = f"{library}.{os.getpid()}"
        file = source(PROJECT, "candle-kernels/src/moe/moe_wmma.cu")
        nvcc = ["nvcc", "-O3", "-std=c++17", target, "-shared", "-Xcompiler", "-fPIC", "-o", part, file]
        subprocess.run(nvcc, check=True, stdout=sys.stderr)
        os.rename(part, library)
    return ctypes.CDLL(library).moe_gemm_wmma


moe_gemm_wmma = build()


def product(x, weights, order, expert, top_k, scale, is_prefill):
    """[T·K,out] by flat index, of x [T·K / top_k,in] and weights [E,out,in]."""
    rows, (experts, width, depth) = len(order), weights.shape
    output = torch.empty(rows, width, dtype=x.dtype, device=x.device)
    counts = torch.empty(experts, dtype=torch.int32, device=x.device)
    offsets = torch.empty(experts + 1, dtype=torch.int32, device=x.device)
    tensors = (x, weights, order, expert, scale, output, counts, offsets)
    pointers = [ctypes.c_void_p(None if tensor is None else tensor.data_ptr()) for tensor in tensors]
    is_bf16 = int(x.dtype == torch.bfloat16)
    sizes = [ctypes.c_int(size) for size in (experts, top_k, rows, width, depth, is_bf16)]
    stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
    moe_gemm_wmma(*pointers, *sizes, ctypes.c_bool(is_prefill), stream)
    return output


def moe(hidden_states, router_indices, routing_weights, gate_up_proj, down_proj, is_prefill=True):
    order, expert, _ = by_expert(router_indices, len(down_proj))
    order, expert, top_k = order.int(), expert.int(), router_indices.shape[1]
    gate_up = product(hidden_states.flatten(0, 1), gate_up_proj, order, expert, top_k, None, is_prefill)
    scale = routing_weights.float().contiguous()
    rows = product(gated(gate_up).contiguous(), down_proj, order, expert, 1, scale, is_prefill)
    return rows.unflatten(0, router_indices.shape).sum(dim=1).view_as(hidden_states)


DOMAIN = {"layers": [OUT_IN], "hidden": {"multiple_of": 8}, "intermediate": {"multiple_of": 8}}
# A call without tokens ends the process, and shows no more: one check asks for it.
WITH_TOKENS = DOMAIN | {"tokens": {"min": 1}}
DECODING = DOMAIN | {"experts": {"max": 1024}}
CHECKS = [
    Check("candle prefill bf16", version(PROJECT), moe, "bf16", DOMAIN),
    Check("candle prefill bf16, T ≥ 1", version(PROJECT), moe, "bf16", WITH_TOKENS),
    Check("candle prefill f16, T ≥ 1", version(PROJECT), moe, "f16", WITH_TOKENS),
    Check("candle decode bf16", version(PROJECT), partial(moe, is_prefill=False), "bf16", DECODING),
]
