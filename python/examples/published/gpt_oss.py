"""gpt-oss: ``MLPBlock`` of its torch model (clone of openai/gpt-oss; tried: 7b58334).

Domain. It is in bf16. Alpha is in its code, the limit in its configuration. It has no capacity.
Its own norm, router and softmax are before the function, and the residual after it: the norm hands on the tokens, the
router what was drawn, and the residual is 0.
"""

import sys
from types import SimpleNamespace

import torch

from ._checks import Check
from ._layers import GPT_OSS_OUT_IN
from ._sources import source, version

PROJECT = "openai/gpt-oss"
sys.path.insert(0, source(PROJECT))
from gpt_oss.torch import model


class Drawn:
    """``torch`` as the block sees it, with the routing that was drawn in place of top-k and softmax."""

    def __init__(self, router_indices, routing_weights):
        self.routing = SimpleNamespace(values=routing_weights, indices=router_indices)
        self.nn = SimpleNamespace(functional=SimpleNamespace(softmax=lambda values, dim: values))

    def topk(self, logits, **options):
        return self.routing

    def __getattr__(self, name):
        return getattr(torch, name)


def moe(
    hidden_states,
    router_indices,
    routing_weights,
    gate_up_proj,
    gate_up_proj_bias,
    down_proj,
    down_proj_bias,
    limit,
):
    tokens = hidden_states.flatten(0, 1)
    block = SimpleNamespace(
        norm=lambda residual: tokens,
        gate=lambda tokens: None,
        experts_per_token=router_indices.shape[1],
        swiglu_limit=limit,
        world_size=1,
        mlp1_weight=gate_up_proj,
        mlp1_bias=gate_up_proj_bias,
        mlp2_weight=down_proj,
        mlp2_bias=down_proj_bias,
    )
    model.torch = Drawn(router_indices, routing_weights)
    try:
        return model.MLPBlock.forward(block, torch.zeros_like(tokens)).view_as(hidden_states)
    finally:
        model.torch = torch


DOMAIN = {"layers": [GPT_OSS_OUT_IN]}
CHECKS = [Check("gpt-oss MLPBlock bf16", version(PROJECT), moe, "bf16", DOMAIN, on_cpu=True)]
