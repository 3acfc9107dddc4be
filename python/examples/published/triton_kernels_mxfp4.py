"""triton_kernels: ``matmul_ogs`` with MXFP4 weights (clone of huggingface/kernels-community; tried: 40d4194f).

Domain. As in ``triton_kernels.py``, in bf16. Its weights are blocks and scales as gpt-oss stores them, transposed as
views: what it multiplies is ``[E,H,2I]`` with two codes of a column in a byte. Nothing in the code says that they must be
in the layout for Hopper, which ``convert_layout`` makes; both are checked. transformers calls it with that one.
The sort is PyTorch's.
"""

from functools import partial

from ._checks import Check
from ._layers import GPT_OSS_MXFP4_BY_SLOT
from ._sources import version
from .triton_kernels import PROJECT, FnSpecs, FusedActivation, PrecisionConfig, matmul_ogs, sorted_by_torch, swiglu_fn
from triton_kernels.tensor import FP4, convert_layout, wrap_torch_tensor
from triton_kernels.tensor_details import layout


def as_stored(codes):
    return codes


def for_this_gpu(codes):
    """The layout that transformers asks for."""
    to, options = layout.make_default_matmul_mxfp4_w_layout(mx_axis=1)
    return convert_layout(wrap_torch_tensor(codes, dtype=FP4), to, **options)


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
    lay_out=as_stored,
):
    def multiply(rows, blocks, scales, bias, **options):
        weights, precision = lay_out(blocks.flatten(-2).mT), PrecisionConfig(weight_scale=scales.mT)
        return matmul_ogs(rows, weights, bias.float(), data, precision_config=precision, **options)

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


def check(name, lay_out):
    function = partial(moe, lay_out=lay_out)
    return Check(f"triton_kernels MXFP4 {name}", version(PROJECT), function, "bf16", DOMAIN, shapes=6, shrink_budget=60)


CHECKS = [check("bf16", as_stored), check("laid out for the GPU bf16", for_this_gpu)]
