"""Peers of packages of kernels, in Triton and in the CuTe DSL, which are called where they can be imported."""

from functools import partial

import torch

from check import ALPHA, LIMIT
from pointwise import Fused
from routing import sort_by_expert


class Unavailable(Exception):
    """A peer cannot be had here; the text says why."""


def triton_kernels(inputs, precision):
    """`matmul_ogs` twice: gather and activation in the first product, bias and weighted scatter in the second.

    The routing is built by hand, so that it is the given one, duplicates included.
    """
    _require_gpu(inputs)
    from triton_kernels.matmul_ogs import FnSpecs, FusedActivation, PrecisionConfig, matmul_ogs
    from triton_kernels.routing import GatherIndx, RoutingData, ScatterIndx, compute_expt_data
    from triton_kernels.swiglu import swiglu_fn

    weights, workload = inputs.weights, inputs.workload
    E, K, R = workload.experts, workload.top_k, workload.rows
    config = PrecisionConfig(allow_tf32=precision == "tf32")
    activation = FusedActivation(FnSpecs("swiglu", swiglu_fn, ("alpha", "limit")), (ALPHA, LIMIT), 2)

    def call():
        routing = sort_by_expert(inputs)
        counts = torch.diff(routing.ends, prepend=torch.zeros_like(routing.ends[:1]))
        order, inverse = routing.order.int(), routing.inverse.int()
        scales = inputs.scales.reshape(-1)[routing.order]
        data = RoutingData(scales, counts, E, K, compute_expt_data(counts, E, R))
        activated = matmul_ogs(
            inputs.tokens, weights.gate_up, weights.gate_up_bias.float(), data,
            gather_indx=GatherIndx(src_indx=order, dst_indx=inverse),
            precision_config=config, fused_activation=activation,
        )
        output = matmul_ogs(
            activated, weights.down, weights.down_bias.float(), data,
            scatter_indx=ScatterIndx(src_indx=inverse, dst_indx=order),
            precision_config=config, gammas=data.gate_scal,
        )
        return output.view(workload.tokens, workload.hidden)

    return call


def quack(inputs, precision):
    """A product with gathered rows that ends in the activation, and another one; tuned by the package in the first call.

    The package's activation of this name has no limit unless it is told one.
    """
    _require_gpu(inputs)
    from quack import activation
    from quack.gemm_interface import gemm, gemm_gated

    name = "swiglu_oai"
    activation.gate_fn_map[name] = partial(activation.swiglu_oai, limit=LIMIT)
    weights, zero = inputs.weights, torch.zeros(1, dtype=torch.int32, device=inputs.workload.device)

    def call():
        routing = sort_by_expert(inputs)
        ends = torch.cat([zero, routing.ends])
        _, activated = gemm_gated(
            inputs.tokens, weights.gate_up, bias=weights.gate_up_bias, activation=name, cu_seqlens_m=ends,
            A_idx=routing.token.int(), store_preact=False,
        )
        rows = gemm(activated, weights.down, bias=weights.down_bias, cu_seqlens_m=ends)
        return Fused.combine(rows, routing.inverse, inputs.scales)

    return call


def scattermoe(inputs, precision, pointwise):
    """`parallel_linear` twice, with an activation between them."""
    _require_gpu(inputs)
    from scattermoe.kernels import ops
    from scattermoe.parallel_experts import parallel_linear

    if not hasattr(ops, "ALLOW_TF32"):
        raise Unavailable("this scattermoe cannot be told whether to use TF32")
    weights, workload = inputs.weights, inputs.workload

    def call():
        ops.ALLOW_TF32 = precision == "tf32"
        routing = sort_by_expert(inputs)
        ends = routing.ends.long()
        hidden = parallel_linear(
            inputs.tokens, weights.gate_up, workload.top_k, routing.expert, routing.order, ends,
            expert_biases=weights.gate_up_bias, grouped_out=True,
        )
        return parallel_linear(
            pointwise.activate(hidden), weights.down, 1, routing.expert, routing.order, ends,
            expert_biases=weights.down_bias, grouped_in=True, gates=inputs.scales,
        )

    return call


def _require_gpu(inputs):
    if inputs.workload.device != "cuda":
        raise Unavailable("its kernels need a GPU")
