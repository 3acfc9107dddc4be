"""scattermoe: ``parallel_linear``, once for each of the two products (clone of shawntan/scattermoe; tried: 47b5e15).

Domain. It has no capacity. It takes fp32, with or without TF32, and bf16.
Sort and activation are PyTorch's; the biases and the weighted sum are its own.
"""

import sys
from functools import partial

from ._checks import Check
from ._layers import GPT_OSS_BY_SLOT
from ._sources import source, version
from ._torch import by_expert, swiglu

PROJECT = "shawntan/scattermoe"
sys.path.insert(0, source(PROJECT))
from scattermoe.kernels import ops
from scattermoe.parallel_experts import parallel_linear


def moe(
    hidden_states,
    router_indices,
    routing_weights,
    gate_up_proj,
    gate_up_proj_bias,
    down_proj,
    down_proj_bias,
    alpha,
    limit,
    allow_tf32=True,
):
    ops.ALLOW_TF32 = allow_tf32
    order, expert, counts = by_expert(router_indices, len(down_proj))
    routed = expert, order, counts.cumsum(0)
    x, top_k = hidden_states.flatten(0, 1), router_indices.shape[1]
    rows = parallel_linear(x, gate_up_proj, top_k, *routed, expert_biases=gate_up_proj_bias, grouped_out=True)
    rows = swiglu(rows, alpha, limit)
    output = parallel_linear(
        rows, down_proj, 1, *routed, expert_biases=down_proj_bias, gates=routing_weights, grouped_in=True
    )
    return output.view_as(hidden_states)


def check(name, precision, allow_tf32=True, shapes=3, **domain):
    domain = {"layers": [GPT_OSS_BY_SLOT], **domain}
    function = partial(moe, allow_tf32=allow_tf32)
    return Check(f"scattermoe {name}", version(PROJECT), function, precision, domain, shapes=shapes, shrink_budget=60)


CHECKS = [
    check("fp32", "fp32", allow_tf32=False),
    check("tf32", "tf32"),
    check("tf32, finite", "tf32", shapes=24, finite=True),
    check("bf16", "bf16"),
]
