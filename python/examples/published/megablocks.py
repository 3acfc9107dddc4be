"""megablocks: ``binned_gather`` and ``binned_scatter`` (clone of databricks/megablocks; tried: 78eea65).

Domain. The capacity is its own, and any. It takes fp32 and bf16.
Sort, products with their biases, and activation are PyTorch's. The file with the kernels is loaded without its package.
"""

import torch

from ._checks import Check
from ._layers import GPT_OSS_BY_SLOT
from ._sources import load, source, version
from ._torch import by_expert, swiglu

PROJECT = "databricks/megablocks"
kernels = load("megablocks_kernels", source(PROJECT, "megablocks/backend/kernels.py"))


def moe(
    hidden_states,
    router_indices,
    routing_weights,
    gate_up_proj,
    gate_up_proj_bias,
    down_proj,
    down_proj_bias,
    expert_capacity,
    alpha,
    limit,
):
    order, _, counts = by_expert(router_indices, len(down_proj))
    order, ends, top_k = order.int(), counts.cumsum(0).int(), router_indices.shape[1]
    rows = kernels.binned_gather(hidden_states.flatten(0, 1), order, None, ends, expert_capacity, top_k)
    rows = swiglu(torch.baddbmm(gate_up_proj_bias[:, None], rows, gate_up_proj), alpha, limit)
    rows = torch.baddbmm(down_proj_bias[:, None], rows, down_proj)
    return kernels.binned_scatter(rows, order, routing_weights.flatten(), ends, top_k).view_as(hidden_states)


DOMAIN = {"layers": [GPT_OSS_BY_SLOT]}
CHECKS = [
    Check(f"megablocks binned {precision}", version(PROJECT), moe, precision, DOMAIN, shapes=8, shrink_budget=60)
    for precision in ("fp32", "bf16")
]
