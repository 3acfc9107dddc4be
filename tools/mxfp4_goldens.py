#!/usr/bin/env python3
"""Writes to tests/layers what Hugging Face transformers makes of MXFP4 weights of gpt-oss.

    tools/mxfp4_goldens.py [FOLDER]      (default: tests/layers)

The files are like those of transformers_goldens.py, with blocks and scales in place of the projections. Random codes
and scales are dequantised by transformers; the values are kept as `gate_up_proj_values` [E,H,2I] and
`down_proj_values` [E,I,H], and are the weights of its GptOssExperts. Needs the packages torch, safetensors and
transformers; the files were written with transformers 5.24.
"""

import torch
import transformers
from goldens import folder, save
from transformers.integrations.mxfp4 import convert_moe_packed_tensors
from transformers.models.gpt_oss import GptOssConfig
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts

TOKENS, HIDDEN, INNER, EXPERTS, TOP_K = 7, 64, 32, 3, 2
LAYER = {"projections": "mxfp4", "routing_weights": "by-slot"}


def packed(outer, inner, generator):
    """Blocks and scales: every byte, scales of ordinary weights, and in the first rows the least and the largest."""
    blocks = torch.randint(0, 256, (EXPERTS, outer, inner // 32, 16), generator=generator, dtype=torch.uint8)
    scales = torch.randint(119, 125, (EXPERTS, outer, inner // 32), generator=generator, dtype=torch.uint8)
    scales[:, 0, 0] = 0
    scales[:, 1, 0], blocks[:, 1, 0] = 254, 0x80
    return blocks, scales


def inputs(dtype, seed):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape, scale=1.0):
        return (scale * torch.randn(*shape, generator=generator)).to(dtype)

    scores = torch.randn(TOKENS, EXPERTS, generator=generator)
    weights, ids = scores.softmax(dim=1).topk(TOP_K, dim=1)
    case = {
        "hidden_states": normal(1, TOKENS, HIDDEN),
        "router_indices": ids,
        "routing_weights": weights.to(dtype),
        "gate_up_proj_bias": normal(EXPERTS, 2 * INNER, scale=0.25),
        "down_proj_bias": normal(EXPERTS, HIDDEN, scale=0.25),
    }
    for name, outer, inner in (("gate_up_proj", 2 * INNER, HIDDEN), ("down_proj", HIDDEN, INNER)):
        blocks, scales = packed(outer, inner, generator)
        case[name + "_blocks"], case[name + "_scales"] = blocks, scales
        case[name + "_values"] = convert_moe_packed_tensors(blocks, scales, dtype=dtype)
    return case


@torch.no_grad()
def forward(case, dtype):
    sizes = {"hidden_size": HIDDEN, "intermediate_size": INNER, "num_local_experts": EXPERTS}
    layer = GptOssExperts(GptOssConfig(**sizes, num_hidden_layers=1)).to(dtype)
    for name, parameter in layer.named_parameters():
        parameter.data = case[name if name.endswith("bias") else name + "_values"].to(dtype)
    tokens = case["hidden_states"].reshape(TOKENS, HIDDEN).to(dtype)
    rows = layer(tokens, case["router_indices"], case["routing_weights"].to(dtype))
    return rows.view_as(case["hidden_states"])


def main():
    to = folder()
    for seed, (dtype, suffix) in enumerate(((torch.float32, ""), (torch.bfloat16, "_bfloat16"))):
        case = inputs(dtype, 200 + seed)
        tensors = case | {"output": forward(case, dtype), "output_f64": forward(case, torch.float64)}
        save(to / f"mxfp4{suffix}.safetensors", tensors, TOKENS * TOP_K, LAYER, transformers=transformers.__version__)


if __name__ == "__main__":
    main()
