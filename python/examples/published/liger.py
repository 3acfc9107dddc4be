"""Liger-Kernel: ``LigerFusedMoEFunction`` (clone of linkedin/Liger-Kernel; tried: ead96b6).

Domain. silu(gate) · up without biases, and without a capacity. It takes bf16; fp32 products are Triton's ``tl.dot``,
which rounds factors to TF32.
The whole layer is its own. Its search for the fastest tiles is off, by its own switch.
"""

import os
import sys

os.environ["LIGER_FUSED_MOE_AUTOTUNE"] = "0"

from ._checks import Check
from ._layers import OUT_IN
from ._sources import source, version

PROJECT = "linkedin/Liger-Kernel"
sys.path.insert(0, source(PROJECT, "src"))
from liger_kernel.ops.fused_moe import LigerFusedMoEFunction


def moe(hidden_states, router_indices, routing_weights, gate_up_proj, down_proj):
    x, ids = hidden_states.flatten(0, 1), router_indices.int()
    return LigerFusedMoEFunction.apply(x, gate_up_proj, down_proj, ids, routing_weights).view_as(hidden_states)


CHECKS = [
    Check(f"Liger {precision}", version(PROJECT), moe, precision, {"layers": [OUT_IN]}, shapes=4, shrink_budget=40)
    for precision in ("tf32", "bf16")
]
