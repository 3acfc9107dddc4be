"""OpenAI-style binned experts in numpy: a right engine, and a pattern for wrapping a kernel of your own.

For each line {"case": PATH, "output": PATH} on standard input it reads a case, writes the tensor `output`
[B,S,H], in the case's element type, to the second path, and prints {"ok": true}, or {"error": "why"}.
Stages written beside the output, here `sorted_indices` and `bins`, are compared too. To {"describe": true} it
answers what it takes, and that the experts' weights are to come in files of their own.

    binned-experts check --command 'python3 examples/engines/numpy_engine.py'
"""

import json
import sys

import numpy as np

# Every case, of any element type and in any order.
DESCRIPTION = {"domain": {"tie_order": "given"}, "name": "numpy", "weights_apart": True}

TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I64": np.int64}


def read(path):
    """The metadata of a safetensors file, and (type, array) by name."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        values = np.frombuffer(data[slice(*entry["data_offsets"])], TYPES[entry["dtype"]])
        tensors[name] = entry["dtype"], values.reshape(entry["shape"])
    return metadata, tensors


def write(path, tensors):
    header, data = {}, b""
    for name, (dtype, array) in tensors.items():
        raw = array.astype(TYPES[dtype]).tobytes()
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + data)


def widen(dtype, array):
    """The 16-bit types as f32, in which they are computed."""
    if dtype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32) if dtype == "F16" else array


def narrow(dtype, array):
    """A result in the case's type, rounded to nearest, ties to even."""
    if dtype != "BF16":
        return array.astype(TYPES[dtype])
    bits = array.view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(array), 0x7FC0, rounded).astype(np.uint16)


def sort_by_expert(experts_of, experts):
    """The flat indices token * K + slot in the order of their experts, and where each expert's run ends."""
    return np.argsort(experts_of, kind="stable"), np.cumsum(np.bincount(experts_of, minlength=experts))


def affine(x, matrix, bias):
    return x @ matrix + bias


def activate(gate_up, alpha, limit):
    """The clamped SwiGLU: even columns are the gate, odd ones up. NaN passes the clamps, as in PyTorch."""
    gate, up = np.minimum(gate_up[:, 0::2], limit), np.clip(gate_up[:, 1::2], -limit, limit)
    return (up + 1) * (gate / (1 + np.exp(-alpha * gate)))


def forward(case, capacity, alpha, limit):
    (tokens, top_k), experts = case["router_indices"].shape, case["routing_weights"].shape[2]
    x = case["hidden_states"].reshape(tokens, case["hidden_states"].shape[2])
    routing_weights = case["routing_weights"].reshape(tokens, experts)
    weights = np.take_along_axis(routing_weights, case["router_indices"], axis=1).reshape(-1, 1)
    order, bins = sort_by_expert(case["router_indices"].reshape(-1), experts)
    order = case.get("sorted_indices", order)
    slots = np.zeros((tokens * top_k, x.shape[1]), x.dtype)
    for expert, (start, end) in enumerate(zip([0, *bins[:-1].tolist()], bins.tolist())):
        kept = order[start : min(end, start + capacity)]
        if len(kept) > 0:
            rows = affine(x[kept // top_k], case["gate_up_proj"][expert], case["gate_up_proj_bias"][expert])
            rows = activate(rows, alpha, limit)
            rows = affine(rows, case["down_proj"][expert], case["down_proj_bias"][expert])
            slots[kept] = rows * weights[kept]
    output = slots.reshape(tokens, top_k, x.shape[1]).sum(axis=1)
    return output.reshape(case["hidden_states"].shape), order, bins


def weights_of(request, kept={}):
    """The experts' weights of a file of their own. A kernel would pack them here, once for all cases that share them."""
    if request["weights_changed"]:
        _, kept["tensors"] = read(request["weights"])
    return kept["tensors"]


def answer(request):
    metadata, tensors = read(request["case"])
    if "weights" in request:
        tensors |= weights_of(request)
    case = {name: widen(*tensor) for name, tensor in tensors.items()}
    alpha, limit = float(metadata.get("alpha", 1.702)), float(metadata.get("limit", 7.0))
    output, order, bins = forward(case, int(metadata["expert_capacity"]), alpha, limit)
    dtype = tensors["hidden_states"][0]
    stages = {"sorted_indices": ("I64", order), "bins": ("I64", bins)}
    write(request["output"], {"output": (dtype, narrow(dtype, output)), **stages})


def main():
    np.seterr(all="ignore")  # Inf and NaN are values here.
    for line in sys.stdin:
        try:
            request = json.loads(line)
            if "describe" in request:
                print(json.dumps(DESCRIPTION), flush=True)
                continue
            answer(request)
            print(json.dumps({"ok": True}), flush=True)
        except Exception as error:
            print(json.dumps({"error": repr(error)}), flush=True)


if __name__ == "__main__":
    main()
