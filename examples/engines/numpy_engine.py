"""OpenAI-style binned experts in numpy: a right engine, and a pattern for wrapping a kernel of your own.

For each line {"case": PATH, "output": PATH} on standard input it reads a case, writes the tensor `output`
[B,S,H], in the type that the case's layer gives it, to the second path, and prints {"ok": true}, or {"error": "why"}.
Stages written beside the output, here `sorted_indices` and `bins`, are compared too. To {"describe": true} it
answers what it takes, and that the experts' weights are to come in files of their own. It takes layers of several models,
and the part of one rank of an expert-parallel program.

    binned-experts check --command 'python3 examples/engines/numpy_engine.py'
"""

import json
import math
import sys

import numpy as np

# The layers of some models, by name, and one of each other activation, with tensors in every layout.
GELU = {"activation": "gelu", "gate_up": "concatenated", "bias": False, "projections": "out-in"}
GELU_TANH = {"activation": "gelu-tanh", "projections": "out-in", "routing_weights": "by-slot"}
CLAMPED_SILU = {"activation": "clamped-silu", "gate_up": "concatenated", "weight_on": "input"}
# Routing weights, biases and the output in f32 beside bf16 and f16.
WIDE = {"routing_weight_type": "wide", "bias_type": "wide", "output_type": "wide"}
# Shared experts with biases.
SHARED = {"shared_experts": 2}
LAYERS = [
    *("gpt-oss", "gpt-oss-mxfp4", "gpt-oss-f32-biases", "mixtral", "mixtral-f32-weights"),
    *("deepseek-v3", "deepseek-v3-shared", "llama4", "llama4-shared", "nemotron-h"),
    *(GELU, GELU_TANH, CLAMPED_SILU, WIDE, SHARED),
]
# Every case of them, of any element type, in any order, and with ids of experts that are not here.
VIEWS = ["strided", "stepped", "offset", "transposed"]
DOMAIN = {"tie_order": "given", "layers": LAYERS, "foreign": ["minus-one", "other-ranks"], "views": VIEWS}
DESCRIPTION = {"domain": DOMAIN, "name": "numpy", "weights_apart": True}
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

TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I64": np.int64, "U8": np.uint8}
# The values of the codes of MXFP4.
MAGNITUDES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
CODES = np.concatenate([MAGNITUDES, -MAGNITUDES])


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
    for name, view in json.loads(metadata.get("views", "{}")).items():
        dtype, storage = tensors[name]
        offset, strides = (np.multiply(view[part], storage.itemsize) for part in ("offset", "strides"))
        tensors[name] = dtype, np.ndarray(view["shape"], storage.dtype, storage, offset, strides)
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


def output_type(dtype, layer):
    """The element type, or f32 for a wide output beside bf16 and f16."""
    return "F32" if layer["output_type"] == "wide" and dtype in ("BF16", "F16") else dtype


def narrow(dtype, array):
    """A result in a type, rounded to nearest, ties to even."""
    if dtype != "BF16":
        return array.astype(TYPES[dtype])
    bits = array.view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(array), 0x7FC0, rounded).astype(np.uint16)


def dequantised(blocks, scales, dtype):
    """A projection [E,out,in] of MXFP4: codes [E,out,in/32,16], the low four bits of a byte first, and [E,out,in/32]."""
    experts, rows, number = scales.shape
    codes = np.stack([blocks & 15, blocks >> 4], axis=-1).reshape(experts, rows, number, 32)
    values = np.ldexp(CODES[codes], scales[..., None].astype(np.int32) - 127)
    return values.reshape(experts, rows, 32 * number).astype(dtype)


def local_experts(ids, first, experts):
    """The place of each id among the experts that are here; their number for an id of none of them, -1 for one."""
    local = ids - first
    return np.where((0 <= local) & (local < experts), local, experts)


def sort_by_expert(experts_of, experts):
    """The flat indices token * K + slot in the order of their experts, and where each expert's run ends. What is of no
    expert here is left out."""
    bins = np.cumsum(np.bincount(experts_of, minlength=experts + 1)[:experts])
    return np.argsort(experts_of, kind="stable")[: bins[-1] if experts > 0 else 0], bins


def of_expert(case, name, expert):
    """A tensor of an expert; None stands for the shared ones, which are as one."""
    return case["shared_" + name] if expert is None else case[name][expert]


def affine(case, name, expert, x, layer):
    """x times a projection of an expert, and its bias if the layer has one."""
    matrix = of_expert(case, name, expert)
    product = x @ (matrix if layer["projections"] == "in-out" else matrix.T)
    return product + of_expert(case, name + "_bias", expert) if layer["bias"] else product


def silu(x, alpha=1.0):
    return x / (1 + np.exp(-alpha * x))


def erf(x):
    return np.vectorize(math.erf, otypes=[np.float64])(x).astype(x.dtype)


def activate(gate_up, layer, alpha, limit):
    """NaN passes the clamps, as in PyTorch."""
    activation = layer["activation"]
    if activation == "relu-squared":
        return np.maximum(gate_up, 0) ** 2
    if layer["gate_up"] == "concatenated":
        gate, up = np.split(gate_up, 2, axis=1)
    else:
        gate, up = gate_up[:, 0::2], gate_up[:, 1::2]
    if activation.startswith("clamped"):
        gate, up = np.minimum(gate, limit), np.clip(up, -limit, limit)
    if activation == "clamped-swiglu":
        return (up + 1) * silu(gate, alpha)
    if activation == "gelu":
        return up * (gate * 0.5 * (1 + erf(gate * math.sqrt(0.5))))
    if activation == "gelu-tanh":
        return up * (gate * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3))))
    return up * silu(gate)


def expert_rows(case, expert, x, layer, alpha, limit):
    """What an expert gives for each row of x."""
    activated = activate(affine(case, "gate_up_proj", expert, x, layer), layer, alpha, limit)
    return affine(case, "down_proj", expert, activated, layer)


def slot_weights(case, experts_of, layer):
    """The routing weight of each slot, [T*K,1]; 0 where its expert is not here."""
    (tokens, top_k), experts = case["router_indices"].shape, len(case["gate_up_proj"])
    if layer["routing_weights"] == "by-slot":
        return np.where(experts_of < experts, case["routing_weights"].reshape(-1), 0).reshape(-1, 1)
    with_none = np.pad(case["routing_weights"].reshape(tokens, experts), [(0, 0), (0, 1)])
    return np.take_along_axis(with_none, experts_of.reshape(tokens, top_k), axis=1).reshape(-1, 1)


def forward(case, capacity, layer, first, alpha, limit):
    (tokens, top_k), experts = case["router_indices"].shape, len(case["gate_up_proj"])
    x = case["hidden_states"].reshape(tokens, case["hidden_states"].shape[2])
    experts_of = local_experts(case["router_indices"].reshape(-1), first, experts)
    weights = slot_weights(case, experts_of, layer)
    order, bins = sort_by_expert(experts_of, experts)
    order = case.get("sorted_indices", order)
    slots = np.zeros((tokens * top_k, x.shape[1]), x.dtype)
    for expert, (start, end) in enumerate(zip([0, *bins[:-1].tolist()], bins.tolist())):
        kept = order[start : min(end, start + capacity)]
        if len(kept) > 0:
            on_input = layer["weight_on"] == "input"
            rows = x[kept // top_k] * weights[kept] if on_input else x[kept // top_k]
            rows = expert_rows(case, expert, rows, layer, alpha, limit)
            slots[kept] = rows if on_input else rows * weights[kept]
    output = slots.reshape(tokens, top_k, x.shape[1]).sum(axis=1) * x.dtype.type(layer["scale"])
    if layer["shared_experts"] > 0:
        output += expert_rows(case, None, x, layer, alpha, limit)
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
    layer = USUAL | json.loads(metadata.get("layer", "{}"))
    if layer["projections"] == "mxfp4":
        for name in ("gate_up_proj", "down_proj"):
            case[name] = dequantised(case[name + "_blocks"], case[name + "_scales"], case["hidden_states"].dtype)
    first = int(metadata.get("first_expert", 0))
    output, order, bins = forward(case, int(metadata["expert_capacity"]), layer, first, alpha, limit)
    dtype = output_type(tensors["hidden_states"][0], layer)
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
