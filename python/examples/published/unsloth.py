"""unsloth: ``grouped_gemm_forward``, once for each of the two products (clone of unslothai/unsloth; tried: 015bdef).

Domain. Its tiles are 32 deep by default, and it has no tail: H and I are multiples of 32. It has no capacity.
"fused" has its option ``fuse_mul_post``, which multiplies rows by their weights. The option reads a name that nothing
defines; "fused, defined" defines it. The activation, and the weighted sum without the option, are PyTorch's. The
package around its folder is a stand-in.
"""

import os
import sys
from functools import partial

from ._checks import Check
from ._layers import OUT_IN
from ._sources import source, stand_in, version
from ._torch import by_expert, gated, weighted_sum

PROJECT = "unslothai/unsloth"
stand_in("unsloth", DEVICE_TYPE="cuda")
sys.path.insert(0, os.path.dirname(source(PROJECT, "unsloth/kernels/moe/grouped_gemm")))
from grouped_gemm import interface


def moe(hidden_states, router_indices, routing_weights, gate_up_proj, down_proj, fused=False, defined=False):
    if defined:
        interface._FUSED_MUL_WARN = True
    order, _, counts = by_expert(router_indices, len(down_proj))
    x, top_k, order, counts = hidden_states.flatten(0, 1), router_indices.shape[1], order.int(), counts.int()
    rows = interface.grouped_gemm_forward(x, gate_up_proj, top_k, counts, order, permute_x=True)
    options = {"topk_weights": routing_weights.flatten(), "fuse_mul_post": True} if fused else {}
    rows = interface.grouped_gemm_forward(
        gated(rows).contiguous(), down_proj, top_k, counts, order, permute_y=True, **options
    )
    if fused:
        return rows.unflatten(0, router_indices.shape).sum(dim=1).view_as(hidden_states)
    return weighted_sum(rows, routing_weights).view_as(hidden_states)


def check(name, **options):
    domain = {"layers": [OUT_IN], "hidden": {"multiple_of": 32}, "intermediate": {"multiple_of": 32}}
    function = partial(moe, **options)
    return Check(f"unsloth {name}", version(PROJECT), function, "bf16", domain, shapes=12, shrink_budget=60)


CHECKS = [check("bf16"), check("fused bf16", fused=True), check("fused, defined bf16", fused=True, defined=True)]
