"""torchtitan: GptOssGroupedExperts, which calls torch._grouped_mm (pytorch/torchtitan; tried: b5bcd76).

    git clone https://github.com/pytorch/torchtitan $PUBLISHED_SOURCES/torchtitan

Domain. It turns tokens and weights into bf16. Alpha is the default of its swiglu, the limit is in its configuration. It
has no capacity. torch._grouped_mm wants rows of a multiple of 16 bytes, and fewer than 1,024 groups.
The two files models/common/moe.py and models/gpt_oss/moe.py run as they stand; the modules that they import are
stand-ins, for one device. The sort before it and the weighted sum after it are the adapter's.
"""

import torch
from adapter import commit, load, serve, source, stand_in

DOMAIN = {
    "precision": ["bf16"],
    "hidden": {"multiple_of": 8},
    "intermediate": {"multiple_of": 8},
    "experts": {"max": 1023},
    "drops": False,
    "alpha": [1.702],
}


class Module(torch.nn.Module):
    class Config:
        pass


stand_in("spmd_types", register_autograd_function=lambda function: function)
for name in ("", ".distributed", ".models", ".models.common", ".models.gpt_oss", ".protocols"):
    stand_in("torchtitan" + name)
for name in ("feed_forward", "linear", "token_dispatcher"):
    stand_in("torchtitan.models.common." + name)
stand_in("torchtitan.distributed.spmd_types", spmd_mesh_size=lambda axis: 1)
stand_in("torchtitan.distributed.utils", get_spmd_backend=lambda: "none")
stand_in("torchtitan.protocols.module", Module=Module)
load("torchtitan.models.common.moe", source("torchtitan", "torchtitan/models/common/moe.py"))
moe = load("torchtitan.models.gpt_oss.moe", source("torchtitan", "torchtitan/models/gpt_oss/moe.py"))


def pack(weights):
    """The module, with its weights by [out,in]."""
    experts, intermediate, hidden = weights.down_proj.shape
    with torch.device("meta"):
        config = moe.GptOssGroupedExperts.Config(dim=hidden, hidden_dim=intermediate, num_experts=experts)
        module = moe.GptOssGroupedExperts(config)
    own = {
        "mlp1_weight_EGD": weights.gate_up_proj.transpose(1, 2).contiguous(),
        "mlp1_bias_EG": weights.gate_up_proj_bias,
        "mlp2_weight_EDF": weights.down_proj.transpose(1, 2).contiguous(),
        "mlp2_bias_ED": weights.down_proj_bias,
    }
    for name, weight in own.items():
        setattr(module, name, torch.nn.Parameter(weight, requires_grad=False))
    return module


def forward(case, module):
    order, _, counts = case.by_expert()
    module.swiglu_limit = case.limit
    return case.combine(module(case.x[order // case.top_k], counts), order)


serve(f"torchtitan-{commit('torchtitan')}", DOMAIN, pack, forward)
