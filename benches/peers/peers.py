"""Our kernels, peers of torch and of transformers, and the list of those that `run.py` times.

A peer's `build` takes the inputs and a class of precision, and returns a function without arguments that computes a
new output [T, H] from them. It raises Unavailable, or ImportError, where the peer cannot be had. Weights lie as the
seed's do; what a peer would need to lay out anew it does not get.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

import packages
from packages import Unavailable
from pointwise import Fused, Plain, fused_reason
from routing import sort_by_expert

CLASSES = ("fp32", "tf32")


@dataclass(frozen=True)
class Peer:
    name: str
    build: Callable


def loop(pointwise):
    """Per expert: addmm, activation, addmm; around them an index by token and a weighted sum over the slots."""

    def build(inputs, precision):
        _require_pointwise(pointwise, inputs)
        weights, workload = inputs.weights, inputs.workload

        def call():
            routing = sort_by_expert(inputs)
            gathered = inputs.tokens[routing.token]
            rows = torch.empty(workload.rows, workload.hidden, dtype=gathered.dtype, device=gathered.device)
            start = 0
            for expert, end in enumerate(routing.ends.tolist()):
                if end > start:
                    hidden = torch.addmm(
                        weights.gate_up_bias[expert], gathered[start:end], weights.gate_up[expert]
                    )
                    activated = pointwise.activate(hidden)
                    torch.addmm(
                        weights.down_bias[expert], activated, weights.down[expert], out=rows[start:end]
                    )
                start = end
            return pointwise.combine(rows, routing.inverse, inputs.scales)

        return call

    return build


def grouped_mm(inputs, precision):
    """torch's grouped product, with the Triton activation and combination where they run."""
    product = getattr(torch.nn.functional, "grouped_mm", None)
    if product is None:
        raise Unavailable("this torch has no torch.nn.functional.grouped_mm")
    weights = inputs.weights
    pointwise = best_pointwise(inputs)

    def call():
        routing = sort_by_expert(inputs)
        gathered = inputs.tokens[routing.token]
        hidden = product(gathered, weights.gate_up, offs=routing.ends)
        activated = pointwise.activate(hidden, weights.gate_up_bias, routing.expert)
        rows = product(activated, weights.down, offs=routing.ends)
        return pointwise.combine(rows, routing.inverse, inputs.scales, weights.down_bias, inputs.experts)

    return call


def binned_experts(inputs, precision):
    """Our kernels, which pack the weights before the first call."""
    from binned_experts.pipeline import Pipeline

    weights = inputs.weights
    layer = Pipeline(weights.gate_up, weights.gate_up_bias, weights.down, weights.down_bias)
    return lambda: layer(inputs.tokens, inputs.experts, inputs.routing_weights)


def transformers_experts(implementation):
    """GptOssExperts of transformers 5, which takes the weights as they are."""

    def build(inputs, precision):
        import transformers
        from transformers.models.gpt_oss.configuration_gpt_oss import GptOssConfig
        from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts

        if int(transformers.__version__.split(".")[0]) < 5:
            raise Unavailable(f"transformers {transformers.__version__} is older than 5")
        weights, workload = inputs.weights, inputs.workload
        config = GptOssConfig(
            hidden_size=workload.hidden,
            intermediate_size=workload.intermediate,
            num_local_experts=workload.experts,
            num_experts_per_tok=workload.top_k,
        )
        config._experts_implementation = implementation
        with torch.device("meta"):
            experts = GptOssExperts(config)
        for name, value in (
            ("gate_up_proj", weights.gate_up),
            ("gate_up_proj_bias", weights.gate_up_bias),
            ("down_proj", weights.down),
            ("down_proj_bias", weights.down_bias),
        ):
            if getattr(experts, name).shape != value.shape:
                raise Unavailable(f"{name} of this transformers has another shape")
            setattr(experts, name, nn.Parameter(value, requires_grad=False))
        return lambda: experts(inputs.tokens, inputs.experts, inputs.scales)

    return build


def best_pointwise(inputs):
    """The Triton kernels where they run, else torch."""
    return Plain if fused_reason(inputs.workload.device) else Fused


def _require_pointwise(pointwise, inputs):
    reason = fused_reason(inputs.workload.device)
    if pointwise is Fused and reason:
        raise Unavailable(reason)


ALL = (
    Peer("torch loop", loop(Plain)),
    Peer("torch loop + Triton", loop(Fused)),
    Peer("torch grouped_mm", grouped_mm),
    Peer("transformers eager", transformers_experts("eager")),
    Peer("transformers grouped_mm", transformers_experts("grouped_mm")),
    Peer("triton_kernels", packages.triton_kernels),
    Peer("scattermoe", lambda inputs, precision: packages.scattermoe(inputs, precision, best_pointwise(inputs))),
)
LOOPS = ("torch loop", "torch loop + Triton")
