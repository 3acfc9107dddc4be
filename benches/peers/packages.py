"""Peers of two packages of Triton kernels, which are called where they can be imported."""

import torch

from check import ALPHA, LIMIT
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
