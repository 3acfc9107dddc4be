"""FBGEMM: its Triton grouped_gemm, once for each of the two products (pytorch/FBGEMM; tried: 71d6f8b).

    git clone https://github.com/pytorch/FBGEMM $PUBLISHED_SOURCES/FBGEMM

Domain. Its result is bf16. It has no capacity. Where depth and width are multiples of 8 it loads through tensor
descriptors and asserts that the depth is a multiple of its tile's, at least 64: so H and I are multiples of 64.
Sort, biases, activation and weighted sum are the adapter's. One tile of its list, 64 by 64 by 64, takes the place of
its search for the fastest, which would compile up to 72 for each shape.
"""

import sys

from adapter import commit, serve, source

sys.path.insert(0, source("FBGEMM"))
from fbgemm_gpu.experimental.gemm.triton_gemm import grouped_gemm as fbgemm

DOMAIN = {
    "precision": ["bf16"],
    "hidden": {"multiple_of": 64},
    "intermediate": {"multiple_of": 64},
    "drops": False,
}


def is_chosen(config):
    sizes = [config.kwargs["BLOCK_SIZE_" + axis] for axis in "MNK"]
    return sizes == [64, 64, 64] and (config.num_stages, config.num_warps) == (3, 4)


kernel = fbgemm._fbgemm_grouped_gemm
kernel.configs = [config for config in kernel.configs if is_chosen(config)]
kernel.early_config_prune = None


def pack(weights):
    """The weights of all experts below each other, by [out,in], and the biases."""
    up, down = (by_out(weight) for weight in (weights.gate_up_proj, weights.down_proj))
    return up, weights.gate_up_proj_bias, down, weights.down_proj_bias


def by_out(weight):
    return weight.transpose(1, 2).flatten(0, 1).contiguous()


def forward(case, packed):
    up, up_bias, down, down_bias = packed
    order, experts, counts = case.by_expert()
    gate_up = fbgemm.grouped_gemm(case.x[order // case.top_k], up, counts.int()) + up_bias[experts]
    activated = case.activate(gate_up).contiguous()
    return case.combine(fbgemm.grouped_gemm(activated, down, counts.int()) + down_bias[experts], order)


serve(f"fbgemm-{commit('FBGEMM')}", DOMAIN, pack, forward)
