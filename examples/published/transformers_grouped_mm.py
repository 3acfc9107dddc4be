"""transformers: GptOssExperts by its experts implementation "grouped_mm", as installed (tried: 5.17.0).

Domain. Alpha and limit are set in its constructor. It has no capacity. torch.nn.functional.grouped_mm wants rows of a
multiple of 16 bytes, so H and I are multiples of 8 (of 4 in fp32, which is inside that), and fewer than 1,024 groups.
The whole layer is the project's own; the adapter gives it the weights of the K experts of a token.
"""

from types import SimpleNamespace

from adapter import serve

import torch
import transformers
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts

DOMAIN = {
    "precision": ["fp32", "bf16", "f16"],
    "hidden": {"multiple_of": 8},
    "intermediate": {"multiple_of": 8},
    "experts": {"max": 1023},
    "drops": False,
    "alpha": [1.702],
    "limit": [7.0],
}


def pack(weights):
    experts, intermediate, hidden = weights.down_proj.shape
    config = SimpleNamespace(
        num_local_experts=experts,
        hidden_size=hidden,
        intermediate_size=intermediate,
        _experts_implementation="grouped_mm",
    )
    with torch.device("meta"):
        module = GptOssExperts(config)
    for name, weight in vars(weights).items():
        setattr(module, name, torch.nn.Parameter(weight, requires_grad=False))
    return module


def forward(case, module):
    return module(case.x, case.indices, case.weights)


serve(f"transformers-grouped_mm-{transformers.__version__}", DOMAIN, pack, forward)
