"""triton_kernels: ``matmul_ogs`` with MXFP4 weights (clone of huggingface/kernels-community; tried: 40d4194f).

Domain. As in ``triton_kernels.py``, in bf16. Its weights are blocks and scales as gpt-oss stores them, transposed as
views: what it multiplies is ``[E,H,2I]`` with two codes of a column in a byte. Nothing in the code says that they must be
in the layout for Hopper, which ``convert_layout`` makes. The sort is PyTorch's.
"""

from ._checks import Check
from ._layers import GPT_OSS_MXFP4_BY_SLOT
from ._sources import version
from .triton_kernels import PROJECT, FnSpecs, FusedActivation, PrecisionConfig, matmul_ogs, sorted_by_torch, swiglu_fn


def moe(
    hidden_states,
    router_indices,
    routing_weights,
    gate_up_proj_blocks,
    gate_up_proj_scales,
    gate_up_proj_bias,
    down_proj_blocks,
    down_proj_scales,
    down_proj_bias,
    alpha,
    limit,
):
    def multiply(rows, blocks, scales, bias, **options):
        precision = PrecisionConfig(weight_scale=scales.mT)
        return matmul_ogs(rows, blocks.flatten(-2).mT, bias.float(), data, precision_config=precision, **options)

    data, gather, scatter = sorted_by_torch(router_indices, routing_weights, len(down_proj_blocks))
    swiglu = FusedActivation(FnSpecs("swiglu", swiglu_fn, ("alpha", "limit")), (alpha, limit), 2)
    x = hidden_states.flatten(0, 1)
    rows = multiply(
        x, gate_up_proj_blocks, gate_up_proj_scales, gate_up_proj_bias, gather_indx=gather, fused_activation=swiglu
    )
    output = multiply(
        rows, down_proj_blocks, down_proj_scales, down_proj_bias, scatter_indx=scatter, gammas=data.gate_scal
    )
    return output.view_as(hidden_states)


DOMAIN = {"layers": [GPT_OSS_MXFP4_BY_SLOT], "top_k": {"power_of_two": True}}

CHECKS = [
    Check("triton_kernels MXFP4 bf16", version(PROJECT), moe, "bf16", DOMAIN, shapes=6, shrink_budget=60),
]
