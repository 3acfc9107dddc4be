"""triton_kernels: ``matmul_ogs`` with its fused swiglu (clone of huggingface/kernels-community; tried: 40d4194f).

Domain. K is a power of two, as a constant of its reduction. It has no capacity. It takes fp32, with or without TF32,
and bf16. With ``routing`` it sorts and counts by its own ``routing(expt_indx=…)``, whose gates are a softmax; those
that were drawn are put in their places. A top-k names no expert twice, and nothing in the code says that
``expt_indx`` may not: both are checked.
Without ``routing`` the sort is PyTorch's.
Nothing in the code says that biases or ids lie in rows without gaps. Two checks hand these alone over as views.
"""

import sys
from functools import partial

import torch

from ._checks import Check
from ._layers import GPT_OSS_BY_SLOT
from ._sources import source, version
from ._torch import InRowsBut, by_expert

PROJECT = "huggingface/kernels-community"
sys.path.insert(0, source(PROJECT, "triton-kernels/torch-ext"))
from triton_kernels.matmul_ogs import FnSpecs, FusedActivation, PrecisionConfig, matmul_ogs
from triton_kernels.routing import GatherIndx, RoutingData, ScatterIndx, compute_expt_data, routing
from triton_kernels.swiglu import swiglu_fn


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
    route=None,
    allow_tf32=False,
):
    x, precision = hidden_states.flatten(0, 1), PrecisionConfig(allow_tf32=allow_tf32)
    data, gather, scatter = (route or sorted_by_torch)(router_indices, routing_weights, len(down_proj))
    swiglu = FusedActivation(FnSpecs("swiglu", swiglu_fn, ("alpha", "limit")), (alpha, limit), 2)
    rows = matmul_ogs(
        x,
        gate_up_proj,
        gate_up_proj_bias.float(),
        data,
        gather_indx=gather,
        precision_config=precision,
        fused_activation=swiglu,
    )
    output = matmul_ogs(
        rows,
        down_proj,
        down_proj_bias.float(),
        data,
        scatter_indx=scatter,
        precision_config=precision,
        gammas=data.gate_scal,
    )
    return output.view_as(hidden_states)


def sorted_by_torch(router_indices, routing_weights, experts):
    order, _, counts = by_expert(router_indices, experts)
    order, counts, place = order.int(), counts.int(), torch.argsort(order).int()
    expert_data = compute_expt_data(counts, experts, order.numel())
    data = RoutingData(routing_weights.flatten()[order], counts, experts, router_indices.shape[1], expert_data)
    return data, GatherIndx(src_indx=order, dst_indx=place), ScatterIndx(src_indx=place, dst_indx=order)


def routed(router_indices, routing_weights, experts):
    tokens, top_k = router_indices.shape
    logits = torch.zeros(tokens, experts, device=router_indices.device)
    data, gather, scatter = routing(logits, top_k, expt_indx=router_indices.int())
    data.gate_scal = routing_weights.flatten()[gather.src_indx.clamp(min=0).long()]
    return data, gather, scatter


def check(name, precision, duplicates=True, views=(), **options):
    domain = {"layers": [GPT_OSS_BY_SLOT], "top_k": {"power_of_two": True}, "duplicates": duplicates}
    function = partial(moe, **options)
    if views:
        # No token, and NaN, fail as they are: this is on views.
        domain |= {"views": ["transposed"], "tokens": {"min": 1}, "finite": True}
        function = InRowsBut(function, views)
    return Check(f"triton_kernels {name}", version(PROJECT), function, precision, domain, shapes=6, shrink_budget=60)


CHECKS = [
    check("matmul_ogs fp32", "fp32"),
    check("matmul_ogs tf32", "tf32", allow_tf32=True),
    check("matmul_ogs bf16", "bf16"),
    check("routing and matmul_ogs bf16", "bf16", route=routed),
    check("routing of distinct experts bf16", "bf16", duplicates=False, route=routed),
    check("biases as views fp32", "fp32", views=("gate_up_proj_bias", "down_proj_bias")),
    check("ids as views bf16", "bf16", duplicates=False, views=("router_indices",), route=routed),
]
