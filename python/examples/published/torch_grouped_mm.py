"""PyTorch: ``torch.nn.functional.grouped_mm``, once for each of the two products (package torch).

Domain. Rows are of a multiple of 16 bytes, so H and I are multiples of 8, and there are fewer than 1,024 groups. It has
no capacity.
Sort, activation and weighted sum are PyTorch's other functions.
"""

import torch
from torch.nn.functional import grouped_mm

from ._checks import Check
from ._layers import OUT_IN
from ._torch import by_expert, gated, weighted_sum

DOMAIN = {
    "layers": [OUT_IN],
    "hidden": {"multiple_of": 8},
    "intermediate": {"multiple_of": 8},
    "experts": {"max": 1023},
}


def moe(hidden_states, router_indices, routing_weights, gate_up_proj, down_proj):
    order, _, counts = by_expert(router_indices, len(gate_up_proj))
    ends = counts.cumsum(0).int()
    rows = hidden_states.flatten(0, 1)[order // router_indices.shape[1]]
    gate_up = grouped_mm(rows, gate_up_proj.transpose(1, 2), offs=ends)
    rows = grouped_mm(gated(gate_up), down_proj.transpose(1, 2), offs=ends)
    return weighted_sum(rows, routing_weights, order).view_as(hidden_states)


CHECKS = [
    Check(f"torch grouped_mm {precision}", torch.__version__, moe, precision, DOMAIN, on_cpu=True)
    for precision in ("fp32", "bf16", "f16")
]
