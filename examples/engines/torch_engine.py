"""OpenAI-style binned experts in PyTorch: how to wrap a function that takes tensors, on a CPU or a GPU.

For each line {"case": PATH, "output": PATH} on standard input it reads a case, writes the tensor `output`
[B,S,H], in the type that the case's layer gives it, to the second path, and prints {"ok": true}, or {"error": "why"}. To
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
from torch.nn.functional import gelu, silu

# Every layer and id; of the layers those of some models, by name, and one of each other activation, are drawn.
LAYERS = [
    *("gpt-oss", "gpt-oss-mxfp4", "gpt-oss-f32-biases", "mixtral", "mixtral-f32-weights"),
    *("deepseek-v3", "deepseek-v3-shared", "llama4", "llama4-shared", "nemotron-h"),
    {"shared_experts": 2},
    {"routing_weight_type": "wide", "bias_type": "wide", "output_type": "wide"},
    *({"activation": activation, "bias": False} for activation in ("gelu", "gelu-tanh", "clamped-silu")),
]
VIEWS = ["strided", "stepped", "offset", "transposed"]
DOMAIN = {"tie_order": "given", "layers": LAYERS, "foreign": ["minus-one", "other-ranks"], "views": VIEWS}
DESCRIPTION = {"domain": DOMAIN, "name": "torch", "weights_apart": True}
# What the metadata `layer` leaves out.
USUAL = {
    "activation": "clamped-swiglu",
    "gate_up": "interleaved",
    "bias": True,
    "projections": "in-out",
    "routing_weights": "by-expert",
    "weight_on": "output",
    "scale": 1.0,
    "bias_type": "element",
    "routing_weight_type": "element",
    "output_type": "element",
    "shared_experts": 0,
}
# The values of the codes of MXFP4.
CODES = [sign * value for sign in (1.0, -1.0) for value in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)]
POISON_BYTES = 1 << 26


def activate(x, layer, alpha, limit):
    activation = layer["activation"]
    if activation == "relu-squared":
        return torch.relu(x).square()
    gate, up = x.chunk(2, dim=-1) if layer["gate_up"] == "concatenated" else (x[..., 0::2], x[..., 1::2])
    if activation.startswith("clamped"):
        gate, up = gate.clamp(max=limit), up.clamp(min=-limit, max=limit)
    if activation == "clamped-swiglu":
        return (up + 1) * (gate * torch.sigmoid(alpha * gate))
    if activation.startswith("gelu"):
        return gelu(gate, approximate="tanh" if activation == "gelu-tanh" else "none") * up
    return silu(gate) * up


def projected(case, name, x, layer):
    """x [E,C,·] times a projection of each expert, and its bias if the layer has one."""
    matrix = case[name] if layer["projections"] == "in-out" else case[name].transpose(1, 2)
    product = torch.bmm(x, matrix)
    return (product + case[name + "_bias"][:, None]).to(x.dtype) if layer["bias"] else product


def expert_rows(case, x, layer, alpha, limit):
    """What each expert gives for its rows of x [E,C,H]."""
    activated = activate(projected(case, "gate_up_proj", x, layer), layer, alpha, limit)
    return projected(case, "down_proj", activated, layer)


def shared_experts(case):
    """The weights of the shared experts, as those of one expert."""
    shared = {name: tensor for name, tensor in case.items() if name.startswith("shared_")}
    return {name.removeprefix("shared_"): tensor[None] for name, tensor in shared.items()}


def dequantised(blocks, scales, dtype):
    """A projection [E,out,in] of MXFP4: codes [E,out,in/32,16], the low four bits of a byte first, and [E,out,in/32]."""
    codes = torch.stack([blocks & 15, blocks >> 4], dim=-1).flatten(-2).long()
    values = torch.tensor(CODES, dtype=torch.float64, device=codes.device)[codes]
    return torch.ldexp(values, scales.int()[..., None] - 127).flatten(-2).to(dtype)


def slot_weights(case, local, layer):
    """The routing weight of each slot, [T·K,1]. Those of slots whose expert is not here are not used."""
    if layer["routing_weights"] == "by-slot":
        return case["routing_weights"].reshape(-1, 1)
    by_expert = torch.nn.functional.pad(case["routing_weights"].flatten(0, 1), (0, 1))
    return by_expert.gather(1, local.view_as(case["router_indices"])).view(-1, 1)


def wide_type(dtype):
    """f32 beside bf16 and f16."""
    return torch.promote_types(dtype, torch.float32)


def forward(case, capacity, layer, first, alpha, limit):
    experts, (tokens, top_k) = case["gate_up_proj"].shape[0], case["router_indices"].shape
    hidden_states = case["hidden_states"].flatten(0, 1)
    # The experts that are here; their number for an id of none of them, -1 for one.
    local = case["router_indices"].flatten() - first
    local = torch.where((0 <= local) & (local < experts), local, experts)
    weights = slot_weights(case, local, layer)

    counts = torch.bincount(local, minlength=experts + 1)[:experts]
    order = case.get("sorted_indices", torch.sort(local, stable=True).indices[: int(counts.sum())])
    expert = local[order]
    row = torch.arange(len(order), device=expert.device) - (counts.cumsum(0) - counts)[expert]
    capacity = min(capacity, max(counts.tolist(), default=0))
    kept = row < capacity
    order, expert, row = order[kept], expert[kept], row[kept]

    x = hidden_states.new_zeros(experts, capacity, hidden_states.shape[1])
    on_input = layer["weight_on"] == "input"
    rows = hidden_states[order // top_k]
    x[expert, row] = (rows * weights[order]).to(x.dtype) if on_input else rows
    x = expert_rows(case, x, layer, alpha, limit)

    # Beside a wide weight a product is wide, and so is the sum; a wide output is one of rows of the element type too.
    output_type = wide_type(x.dtype) if layer["output_type"] == "wide" else x.dtype
    rows = x[expert, row] if on_input else x[expert, row] * weights[order]
    slots = rows.new_zeros(tokens * top_k, rows.shape[1])
    slots[order] = rows
    output = slots.unflatten(0, (tokens, top_k)).sum(dim=1, dtype=torch.promote_types(rows.dtype, output_type))
    output = output * layer["scale"] if layer["scale"] != 1 else output
    output = output.to(output_type)
    if layer["shared_experts"] > 0:
        output = output + expert_rows(shared_experts(case), hidden_states[None], layer, alpha, limit)[0]
    return output.view_as(case["hidden_states"])


def read(path, device):
    """The tensors of a file in memory of the device, row-major but for those that are to be views, and the metadata."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name).to(device, copy=True) for name in file.keys()}
        metadata = file.metadata() or {}
    for name, view in json.loads(metadata.get("views", "{}")).items():
        tensors[name] = tensors[name].as_strided(view["shape"], view["strides"], view["offset"])
    return tensors, metadata


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
        layer = USUAL | json.loads(metadata.get("layer", "{}"))
        if layer["projections"] == "mxfp4":
            for name in ("gate_up_proj", "down_proj"):
                blocks, scales = case[name + "_blocks"], case[name + "_scales"]
                case[name] = dequantised(blocks, scales, case["hidden_states"].dtype)
        first = int(metadata.get("first_expert", 0))
        poison(self.device)
        output = forward(case, int(metadata["expert_capacity"]), layer, first, alpha, limit)
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
