"""torchtitan: ``GptOssGroupedExperts``, by ``torch._grouped_mm`` (clone of pytorch/torchtitan; tried: b5bcd76).

Domain. It turns tokens and weights into bf16. Alpha is the default of its swiglu, the limit is in its configuration. It
has no capacity. ``torch._grouped_mm`` wants rows of a multiple of 16 bytes, and fewer than 1,024 groups.
Its two files run as they stand; the modules that they import are stand-ins, for one device. The sort before it and the
weighted sum after it are PyTorch's.
"""

import torch

from ._checks import Check
from ._layers import GPT_OSS_OUT_IN
from ._sources import load, source, stand_in, version
from ._torch import by_expert, weighted_sum

PROJECT = "pytorch/torchtitan"


class Module(torch.nn.Module):
    class Config:
        pass


stand_in("spmd_types", register_autograd_function=lambda function: function)
for name in ("models.common.feed_forward", "models.common.linear", "models.common.token_dispatcher", "models.gpt_oss"):
    stand_in(f"torchtitan.{name}")
stand_in("torchtitan.distributed.spmd_types", spmd_mesh_size=lambda axis: 1)
stand_in("torchtitan.distributed.utils", get_spmd_backend=lambda: "none")
stand_in("torchtitan.protocols.module", Module=Module)
for name in ("common", "gpt_oss"):
    moe_file = load(f"torchtitan.models.{name}.moe", source(PROJECT, f"torchtitan/models/{name}/moe.py"))


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
    experts, hidden, intermediate = down_proj.shape
    config = moe_file.GptOssGroupedExperts.Config(dim=hidden, hidden_dim=intermediate, num_experts=experts)
    with torch.device("meta"):
        module = moe_file.GptOssGroupedExperts(config)
    weights = {
        "mlp1_weight_EGD": gate_up_proj,
        "mlp1_bias_EG": gate_up_proj_bias,
        "mlp2_weight_EDF": down_proj,
        "mlp2_bias_ED": down_proj_bias,
    }
    for name, weight in weights.items():
        setattr(module, name, torch.nn.Parameter(weight, requires_grad=False))
    module.swiglu_limit = limit
    order, _, counts = by_expert(router_indices, experts)
    rows = module(hidden_states.flatten(0, 1)[order // router_indices.shape[1]], counts)
    return weighted_sum(rows, routing_weights, order).view_as(hidden_states)


DOMAIN = {
    "layers": [GPT_OSS_OUT_IN],
    "hidden": {"multiple_of": 8},
    "intermediate": {"multiple_of": 8},
    "experts": {"max": 1023},
}
CHECKS = [Check("torchtitan GptOssGroupedExperts bf16", version(PROJECT), moe, "bf16", DOMAIN)]
