#!/usr/bin/env python3
"""Writes to tests/layers what whole layers of Hugging Face transformers compute: those that have shared experts.

    tools/shared_goldens.py [FOLDER]      (default: tests/layers)

The files are like those of layer_goldens.py. In place of its router a layer gets the ids and the weights of a routing;
those that DeepSeek's router gives have its factor already. Nothing is dropped. Needs the packages torch, safetensors and
transformers; the files were written with transformers 5.24.
"""

import torch
import transformers
from goldens import folder, results, save
from layer_goldens import EXPERTS, HIDDEN, INNER, MIXTRAL, TOKENS, TOP_K, USUAL, inputs
from transformers.models.deepseek_v3 import DeepseekV3Config
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE
from transformers.models.llama4 import Llama4TextConfig
from transformers.models.llama4.modeling_llama4 import Llama4TextMoe

SHARED = 2
# What differs from gpt-oss. Llama 4 has one shared expert.
DEEPSEEK = MIXTRAL | {"shared_experts": SHARED}
LLAMA = MIXTRAL | {"weight_on": "input", "projections": "in-out", "shared_experts": 1}


def load(linear, matrix):
    """Gives a module a matrix [out,in]."""
    if linear.weight.shape != matrix.shape:
        raise SystemExit(f"expected {tuple(matrix.shape)}, found {tuple(linear.weight.shape)}")
    linear.weight.data = matrix


def loaded(layer, mlp, case, transposed):
    """The layer with the weights of a case, of which `mlp` gets those of the shared experts."""
    layer.to(case["hidden_states"].dtype)
    layer.experts.gate_up_proj.data, layer.experts.down_proj.data = case["gate_up_proj"], case["down_proj"]
    gate_up, down = case["shared_gate_up_proj"], case["shared_down_proj"]
    gate_up, down = (gate_up.T, down.T) if transposed else (gate_up, down)
    gate, up = gate_up.chunk(2)
    for linear, matrix in ((mlp.gate_proj, gate), (mlp.up_proj, up), (mlp.down_proj, down)):
        load(linear, matrix)
    return layer


def deepseek_v3(case):
    sizes = {"n_routed_experts": EXPERTS, "n_shared_experts": SHARED, "num_experts_per_tok": TOP_K}
    layer = DeepseekV3MoE(DeepseekV3Config(hidden_size=HIDDEN, moe_intermediate_size=INNER, **sizes))
    loaded(layer, layer.shared_experts, case, transposed=False)
    del layer.gate
    layer.gate = lambda _: (None, case["routing_weights"], case["router_indices"])
    return layer(case["hidden_states"])


def llama4(case):
    sizes = {"num_local_experts": EXPERTS, "num_experts_per_tok": TOP_K}
    layer = Llama4TextMoe(Llama4TextConfig(hidden_size=HIDDEN, intermediate_size=INNER, **sizes))
    loaded(layer, layer.shared_expert, case, transposed=True)
    scores = torch.zeros(TOKENS, EXPERTS, dtype=case["hidden_states"].dtype)
    scores.scatter_(1, case["router_indices"], case["routing_weights"])
    del layer.router
    layer.router = lambda _: (scores, None)
    return layer(case["hidden_states"])[0].view_as(case["hidden_states"])


@torch.no_grad()
def main():
    to = folder()
    layers = {"deepseek_v3": (DEEPSEEK, deepseek_v3), "llama4": (LLAMA, llama4)}
    for number, (name, (named, forward)) in enumerate(layers.items()):
        for dtype, suffix in ((torch.float32, ""), (torch.bfloat16, "_bfloat16")):
            case = inputs(USUAL | named, dtype, None, 200 + number)
            path = to / f"transformers_{name}_shared{suffix}.safetensors"
            tensors = case | results(forward, case)
            save(path, tensors, TOKENS * TOP_K, named, transformers=transformers.__version__)


if __name__ == "__main__":
    main()
