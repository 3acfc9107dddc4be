"""TransformerEngine: its Triton permute and unpermute with merging probabilities (clone of NVIDIA/TransformerEngine;
tried: d0067d0).

Domain. Its routing map is a mask [T,E], so a token has an expert once. It has no capacity.
The experts between the two are PyTorch's, one after the other. Its files run as they stand, the packages around them
are stand-ins, and one block size takes the place of its search.
"""

import torch

from ._checks import Check
from ._sources import load, source, stand_in, version
from ._torch import swiglu

PROJECT = "NVIDIA/TransformerEngine"
stand_in("transformer_engine.common.triton")
kernels = load(
    "transformer_engine.common.triton.permutation",
    source(PROJECT, "transformer_engine/common/triton/permutation.py"),
)
for kernel in vars(kernels).values():
    if type(kernel).__name__ == "Autotuner":
        kernel.configs = [config for config in kernel.configs if config.kwargs.get("BLOCK_SIZE") == 256]
permutation = load("te_permutation", source(PROJECT, "transformer_engine/pytorch/triton/permutation.py"))


def moe(
    hidden_states,
    router_indices,
    routing_weights,
    gate_up_proj,
    gate_up_proj_bias,
    down_proj,
    down_proj_bias,
    alpha,
    limit,
):
    (tokens, top_k), (experts, _, hidden) = router_indices.shape, down_proj.shape
    mask = torch.zeros(tokens, experts, dtype=torch.bool, device=router_indices.device)
    mask.scatter_(1, router_indices, True)
    map_of_rows = permutation.make_row_id_map(mask, tokens, experts)
    x = hidden_states.flatten(0, 1)
    rows, _, _ = permutation.permute_with_mask_map(
        x, map_of_rows, None, None, None, tokens, experts, tokens * top_k, hidden, 0
    )
    parts = rows.split(mask.sum(dim=0).tolist())
    for expert, part in enumerate(parts):
        activated = swiglu(torch.addmm(gate_up_proj_bias[expert], part, gate_up_proj[expert]), alpha, limit)
        torch.addmm(down_proj_bias[expert], activated, down_proj[expert], out=part)
    weights = routing_weights.flatten(0, 1)
    output, _ = permutation.unpermute_with_mask_map(rows, map_of_rows, weights, None, None, tokens, experts, hidden)
    return output.view_as(hidden_states)


CHECKS = [
    Check(
        f"TransformerEngine permute {precision}",
        version(PROJECT),
        moe,
        precision,
        {"duplicates": False},
        shapes=8,
        shrink_budget=60,
    )
    for precision in ("fp32", "bf16")
]
