#!/usr/bin/env python3
"""Writes to tests/layers what the expert layers of Hugging Face transformers compute.

    tools/transformers_goldens.py [FOLDER]      (default: tests/layers)

The files are like those of layer_goldens.py. The modules get the ids and the weights of a routing; the router of a
model and its shared experts are left out; see shared_goldens.py. They have no capacity, so nothing is dropped. Needs
the packages torch, safetensors and transformers; the files were written with transformers 5.24.
"""

import torch
import transformers
from goldens import folder, results, save
from layer_goldens import EXPERTS, HIDDEN, INNER, MIXTRAL, TOKENS, TOP_K, USUAL, inputs
from transformers.models.deepseek_v3 import DeepseekV3Config
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Experts
from transformers.models.gpt_oss import GptOssConfig
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts
from transformers.models.llama4 import Llama4TextConfig
from transformers.models.llama4.modeling_llama4 import Llama4TextExperts
from transformers.models.mixtral import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import MixtralExperts
from transformers.models.nemotron_h import NemotronHConfig
from transformers.models.nemotron_h.modeling_nemotron_h import NemotronHExperts
from transformers.models.qwen3_moe import Qwen3MoeConfig
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeExperts

SIZES = {"hidden_size": HIDDEN, "intermediate_size": INNER, "moe_intermediate_size": INNER}
COUNTS = {"num_local_experts": EXPERTS, "num_experts": EXPERTS, "n_routed_experts": EXPERTS}
# What differs from gpt-oss, the module, and its configuration.
MODELS = {
    "gpt_oss": ({"routing_weights": "by-slot"}, GptOssExperts, GptOssConfig),
    "mixtral": (MIXTRAL, MixtralExperts, MixtralConfig),
    "qwen3_moe": (MIXTRAL, Qwen3MoeExperts, Qwen3MoeConfig),
    "deepseek_v3": (MIXTRAL, DeepseekV3Experts, DeepseekV3Config),
    "llama4": (MIXTRAL | {"weight_on": "input", "projections": "in-out"}, Llama4TextExperts, Llama4TextConfig),
    "nemotron_h": (MIXTRAL | {"activation": "relu-squared"}, NemotronHExperts, NemotronHConfig),
}


def module(kind, configuration, case):
    layer = kind(configuration(**SIZES, **COUNTS, num_hidden_layers=1))
    layer.to(case["hidden_states"].dtype)
    own = dict(layer.named_parameters())
    for name, parameter in own.items():
        # Without gates, transformers names what is left of the first projection after its half.
        tensor = case["gate_up_proj" if name == "up_proj" else name]
        if parameter.shape != tensor.shape:
            raise SystemExit(f"{kind.__name__}.{name}: expected {tuple(tensor.shape)}, found {tuple(parameter.shape)}")
        parameter.data = tensor
    if len(own) != len([name for name in case if "proj" in name]):
        raise SystemExit(f"{kind.__name__}: expected the tensors of the case, found {sorted(own)}")
    return layer


@torch.no_grad()
def forward(kind, configuration, case):
    layer = module(kind, configuration, case)
    tokens = case["hidden_states"].reshape(TOKENS, HIDDEN)
    ids, weights = case["router_indices"], case["routing_weights"]
    if kind is not Llama4TextExperts:
        return layer(tokens, ids, weights).view_as(case["hidden_states"])
    # As Llama4TextMoe calls it: every token for every expert, times the weight or zero.
    scores = torch.zeros(TOKENS, EXPERTS, dtype=tokens.dtype).scatter_(1, ids, weights)
    routed = layer(tokens.repeat(EXPERTS, 1) * scores.T.reshape(-1, 1))
    return routed.view(EXPERTS, TOKENS, HIDDEN).sum(dim=0).view_as(case["hidden_states"])


def main():
    to = folder()
    for number, (name, (named, kind, configuration)) in enumerate(MODELS.items()):
        for dtype, suffix in ((torch.float32, ""), (torch.bfloat16, "_bfloat16")):
            case = inputs(USUAL | named, dtype, None, 100 + number)
            path = to / f"transformers_{name}{suffix}.safetensors"
            tensors = case | results(lambda values: forward(kind, configuration, values), case)
            save(path, tensors, TOKENS * TOP_K, named, transformers=transformers.__version__)


if __name__ == "__main__":
    main()
