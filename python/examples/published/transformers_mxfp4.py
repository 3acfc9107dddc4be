"""transformers: the experts of gpt-oss from MXFP4 weights that it dequantises (package transformers).

Domain. ``convert_moe_packed_tensors`` takes blocks and scales as gpt-oss stores them, and makes the projections of
``GptOssExperts`` from them in any type; the rest is that of ``transformers.py``. The products are PyTorch's: a CPU's
instructions for bf16 take subnormal operands as 0. Both claims say so.
The whole layer is the project's own.
"""

import transformers
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from ._checks import Check
from ._layers import GPT_OSS_MXFP4_BY_SLOT
from .transformers import moe

DOMAIN = {"layers": [GPT_OSS_MXFP4_BY_SLOT]}


def dequantised(
    hidden_states,
    router_indices,
    routing_weights,
    gate_up_proj_blocks,
    gate_up_proj_scales,
    gate_up_proj_bias,
    down_proj_blocks,
    down_proj_scales,
    down_proj_bias,
):
    return moe(
        hidden_states,
        router_indices,
        routing_weights,
        convert_moe_packed_tensors(gate_up_proj_blocks, gate_up_proj_scales, dtype=hidden_states.dtype),
        gate_up_proj_bias,
        convert_moe_packed_tensors(down_proj_blocks, down_proj_scales, dtype=hidden_states.dtype),
        down_proj_bias,
    )


def check(precision):
    return Check(
        f"transformers MXFP4 eager {precision}", transformers.__version__, dequantised, precision, DOMAIN, on_cpu=True
    )


CHECKS = [check("fp32+flush"), check("bf16+slots-in-element+partials-in-element+flush")]
