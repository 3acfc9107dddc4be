"""OpenAI-style binned experts in PyTorch: how to wrap a function that takes tensors.

For each line {"case": PATH, "output": PATH} on standard input it reads a case, writes the tensor `output`
[B,S,H], in the case's element type, to the second path, and prints {"ok": true}, or {"error": "why"}.
Needs the packages torch and safetensors.

    binned-experts check --command 'python3 examples/engines/torch_engine.py' --precision fp32
"""

import json
import sys

import torch
from safetensors import safe_open
from safetensors.torch import save_file


def forward(case, capacity, alpha, limit):
    experts, (tokens, top_k) = case["routing_weights"].shape[2], case["router_indices"].shape
    hidden_states = case["hidden_states"].flatten(0, 1)
    router_indices = case["router_indices"].flatten()
    weights = case["routing_weights"].flatten(0, 1).gather(1, case["router_indices"]).view(-1, 1)

    order = case.get("sorted_indices", torch.sort(router_indices, stable=True).indices)
    counts = torch.bincount(router_indices, minlength=experts)
    expert = router_indices[order]
    row = torch.arange(tokens * top_k) - (counts.cumsum(0) - counts)[expert]
    capacity = min(capacity, max(counts.tolist(), default=0))
    kept = row < capacity
    order, expert, row = order[kept], expert[kept], row[kept]

    x = hidden_states.new_zeros(experts, capacity, hidden_states.shape[1])
    x[expert, row] = hidden_states[order // top_k]
    x = torch.bmm(x, case["gate_up_proj"]) + case["gate_up_proj_bias"][:, None]
    gate, up = x[..., 0::2].clamp(max=limit), x[..., 1::2].clamp(min=-limit, max=limit)
    x = (up + 1) * (gate * torch.sigmoid(alpha * gate))
    x = torch.bmm(x, case["down_proj"]) + case["down_proj_bias"][:, None]

    slots = hidden_states.new_zeros(tokens * top_k, hidden_states.shape[1])
    slots[order] = x[expert, row] * weights[order]
    return slots.unflatten(0, (tokens, top_k)).sum(dim=1).view_as(case["hidden_states"])


def answer(request):
    with safe_open(request["case"], framework="pt") as file:
        metadata = file.metadata()
        case = {name: file.get_tensor(name) for name in file.keys()}
    alpha, limit = float(metadata.get("alpha", 1.702)), float(metadata.get("limit", 7.0))
    output = forward(case, int(metadata["expert_capacity"]), alpha, limit)
    save_file({"output": output.contiguous()}, request["output"])


def main():
    for line in sys.stdin:
        try:
            answer(json.loads(line))
            print(json.dumps({"ok": True}), flush=True)
        except Exception as error:
            print(json.dumps({"error": repr(error)}), flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
