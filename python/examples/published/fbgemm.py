"""FBGEMM: its Triton ``grouped_gemm``, once for each of the two products (clone of pytorch/FBGEMM; tried: 71d6f8b).

Domain. Its result is bf16. It has no capacity. Where depth and width are multiples of 8 it loads through tensor
descriptors and asserts that the depth is a multiple of its tile's, at least 64: so H and I are multiples of 64.
Sort, activation and weighted sum are PyTorch's. One tile of its list, 64 by 64 by 64, takes the place of its search for
the fastest, which would compile up to 72 for each shape.
"""

import sys

from ._checks import Check
from ._layers import OUT_IN
from ._sources import source, version
from ._torch import by_expert, gated, weighted_sum

PROJECT = "pytorch/FBGEMM"
sys.path.insert(0, source(PROJECT))
from fbgemm_gpu.experimental.gemm.triton_gemm import grouped_gemm as file


def is_chosen(config):
    sizes = [config.kwargs["BLOCK_SIZE_" + axis] for axis in "MNK"]
    return sizes == [64, 64, 64] and (config.num_stages, config.num_warps) == (3, 4)


kernel = file._fbgemm_grouped_gemm
kernel.configs = [config for config in kernel.configs if is_chosen(config)]
kernel.early_config_prune = None


def moe(hidden_states, router_indices, routing_weights, gate_up_proj, down_proj):
    order, _, counts = by_expert(router_indices, len(down_proj))
    rows, counts = hidden_states.flatten(0, 1)[order // router_indices.shape[1]], counts.int()
    rows = file.grouped_gemm(rows, gate_up_proj.flatten(0, 1), counts)
    rows = file.grouped_gemm(gated(rows).contiguous(), down_proj.flatten(0, 1), counts)
    return weighted_sum(rows, routing_weights, order).view_as(hidden_states)


DOMAIN = {"layers": [OUT_IN], "hidden": {"multiple_of": 64}, "intermediate": {"multiple_of": 64}}
CHECKS = [Check("FBGEMM grouped_gemm bf16", version(PROJECT), moe, "bf16", DOMAIN, shapes=12, shrink_budget=60)]
