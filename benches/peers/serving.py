"""The Triton experts of vLLM and SGLang, from their files, as the gallery of published kernels loads them:
PUBLISHED_SOURCES names the folder with the unpacked wheels.

What is compiled in their packages is not there. The rows of each tile, the activation and the sum over the slots are
Triton kernels or operations of PyTorch here, which take about as many passes over memory. Sizes of tiles are those that
the wheels were tuned to, where they have them for these sizes.
"""

import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import torch

from check import ALPHA, LIMIT
from packages import Unavailable
from pointwise import Fused, fused_reason

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

GALLERY = Path(__file__).resolve().parents[2] / "python" / "examples"
CHUNK = 4096


def vllm(inputs, precision):
    """`fused_experts_impl` of vLLM."""
    module = _published("vllm")
    sys.modules["vllm._custom_ops"].moe_align_block_size = align
    module.file.apply_moe_activation = lambda kind, output, gate_up: Fused.activate(gate_up, output=output)
    return _call(module.moe, inputs)


def sglang(inputs, precision):
    """`fused_experts_impl` of SGLang."""
    module = _published("sglang")
    sys.modules[f"{module.EXPERTS}.moe_align_block_size"].sgl_moe_align_block_size = align
    file = sys.modules[f"{module.EXPERTS}.fused_moe"]
    file._swiglu_gpt_oss_sigmoid_alpha = lambda gate_up, alpha, limit: Fused.activate(gate_up)
    file.moe_sum_reduce_torch_compile = file.moe_sum_reduce = _sum_over_slots
    return _call(module.moe, inputs)


@cache
def _published(name):
    """A file of the gallery."""
    reason = fused_reason("cuda")
    if reason:
        raise Unavailable(reason)
    if str(GALLERY) not in sys.path:
        sys.path.append(str(GALLERY))
    return import_module(f"published.{name}")


def _call(moe, inputs):
    """The weights lie as `[out,in]` before the first call."""
    weights = inputs.weights
    gate_up, down = (matrix.transpose(1, 2).contiguous() for matrix in (weights.gate_up, weights.down))
    biases = weights.gate_up_bias, weights.down_bias
    # The files take any batch, as tensors [B,S,H].
    return lambda: moe(
        inputs.tokens[None], inputs.experts, inputs.scales, gate_up, biases[0], down, biases[1], ALPHA, LIMIT
    )[0]


def _sum_over_slots(rows, output, factor):
    """Sum of [T, K, H] over K; the factor is 1."""
    torch.sum(rows, dim=1, out=output)


def align(ids, experts, block, sorted_ids, expert_ids, rows_padded, *others):
    """Writes the flat indices of `ids` [T, K] by expert, those of each filled up to whole tiles of `block` rows with an
    index that is none; the expert of each tile; and the number of rows."""
    R, tiles = ids.numel(), expert_ids.numel()
    columns = triton.next_power_of_2(experts)
    starts = torch.empty(columns, dtype=torch.int32, device=ids.device)
    sorted_ids.fill_(R)
    _tiles[(1,)](ids, starts, expert_ids, rows_padded, R, tiles, block, columns, CHUNK, num_warps=16)
    _places[(triton.cdiv(R, 256),)](ids, starts, sorted_ids, R, 256)


if triton is not None:

    @triton.jit
    def _tiles(ids, starts, expert_ids, rows_padded, R, TILES, BLOCK, E: tl.constexpr, CHUNK: tl.constexpr):
        """Where each expert's rows start, and the expert of each tile. One program."""
        counts = tl.zeros((E,), dtype=tl.int32)
        for first in range(0, R, CHUNK):
            at = first + tl.arange(0, CHUNK)
            counts += tl.histogram(tl.load(ids + at, mask=at < R, other=0), E, mask=at < R)
        tiles = (counts + BLOCK - 1) // BLOCK
        ends = tl.cumsum(tiles, 0)
        tl.store(starts + tl.arange(0, E), (ends - tiles) * BLOCK)
        tl.store(rows_padded, tl.sum(tiles, 0) * BLOCK)
        for first in range(0, TILES, 64):
            tile = first + tl.arange(0, 64)
            before = (ends[None, :] <= tile[:, None]).to(tl.int32)
            tl.store(expert_ids + tile, tl.sum(before, 1), mask=tile < TILES)

    @triton.jit
    def _places(ids, starts, sorted_ids, R, CHUNK: tl.constexpr):
        """Each assignment takes the next row of its expert."""
        at = tl.program_id(0) * CHUNK + tl.arange(0, CHUNK)
        expert = tl.load(ids + at, mask=at < R, other=0)
        place = tl.atomic_add(starts + expert, 1, mask=at < R)
        tl.store(sorted_ids + place, at, mask=at < R)
