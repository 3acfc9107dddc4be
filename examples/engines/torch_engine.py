"""OpenAI-style binned experts in PyTorch: how to wrap a function that takes tensors, on a CPU or a GPU.

For each line {"case": PATH, "output": PATH} on standard input it reads a case, writes the tensor `output`
[B,S,H], in the case's element type, to the second path, and prints {"ok": true}, or {"error": "why"}. To
{"describe": true} it answers what it takes. Needs the packages torch and safetensors.

    binned-experts check --command 'python3 examples/engines/torch_engine.py'
    binned-experts check --command 'python3 examples/engines/torch_engine.py cuda' --precision bf16

`forward` is the kernel. The rest is what a kernel needs around it, on a GPU above all:

- Standard output is for answers alone. What a library prints there goes to standard error.
- A fault of the GPU spoils its context, and every later call would fail. So the process ends; the check starts it
  again and charges the case that did it.
- Memory that the framework hands out next holds NaN, so that a kernel that reads what nobody wrote is found.
- Tensors are copied into plain row-major memory. `contiguous()` is not enough: it keeps odd strides of axes of size 1.
- The expert's weights stay on the device while they are the same.
"""

import json
import os
import sys

import torch
from safetensors import safe_open
from safetensors.torch import save_file

# Every case, of any element type and in any order.
DESCRIPTION = {"domain": {"tie_order": "given"}, "name": "torch", "weights_apart": True}
POISON_BYTES = 1 << 26


def forward(case, capacity, alpha, limit):
    experts, (tokens, top_k) = case["routing_weights"].shape[2], case["router_indices"].shape
    hidden_states = case["hidden_states"].flatten(0, 1)
    router_indices = case["router_indices"].flatten()
    weights = case["routing_weights"].flatten(0, 1).gather(1, case["router_indices"]).view(-1, 1)

    order = case.get("sorted_indices", torch.sort(router_indices, stable=True).indices)
    counts = torch.bincount(router_indices, minlength=experts)
    expert = router_indices[order]
    row = torch.arange(tokens * top_k, device=expert.device) - (counts.cumsum(0) - counts)[expert]
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


def read(path, device):
    """The tensors of a file in plain row-major memory of the device, and the metadata."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        return {name: tensor.to(device, copy=True) for name, tensor in tensors.items()}, file.metadata()


def poison(device):
    """Fills memory and frees it again: the allocator keeps it and hands it out next."""
    for size in (POISON_BYTES, 1 << 20, 1 << 12):
        torch.full((size // 4,), float("nan"), device=device)


class Engine:
    def __init__(self, device):
        self.device = device
        self.weights = None

    def answer(self, request):
        case, metadata = read(request["case"], self.device)
        if "weights" in request:
            if request["weights_changed"]:
                self.weights, _ = read(request["weights"], self.device)
            case |= self.weights
        alpha, limit = float(metadata.get("alpha", 1.702)), float(metadata.get("limit", 7.0))
        poison(self.device)
        output = forward(case, int(metadata["expert_capacity"]), alpha, limit)
        save_file({"output": output.cpu().contiguous()}, request["output"])


def is_lost(error):
    """Whether the context of the GPU may be gone with the error."""
    lost = getattr(torch, "AcceleratorError", ())
    return isinstance(error, lost) or "CUDA error" in str(error) or "device-side assert" in str(error)


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    engine = Engine(sys.argv[1] if len(sys.argv) > 1 else "cpu")
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"ok": True}
            if "describe" in request:
                answer = DESCRIPTION
            else:
                engine.answer(request)
        except Exception as error:
            if is_lost(error):
                raise
            answer = {"error": repr(error)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
