#!/usr/bin/env python3
"""Writes the cases of tests/layers: layers of several models, with PyTorch's results.

    tools/layer_goldens.py [FOLDER]      (default: tests/layers)

Each file is a case as reference/README.md lists it, with the tensors in the layout of its layer, and besides `output`,
computed in the case's type, and `output_f64`, computed in f64 from the same inputs. The function is written out token by
token with PyTorch's own operations. Needs the packages torch and safetensors.
"""

import torch
import torch.nn.functional as F
from goldens import folder, results, save

TOKENS, HIDDEN, INNER, EXPERTS, TOP_K, CAPACITY = 7, 8, 6, 4, 2, 3
MIXTRAL = {
    "activation": "silu",
    "gate_up": "concatenated",
    "bias": False,
    "projections": "out-in",
    "routing_weights": "by-slot",
}
# The layer, the element type, and the id of the first local expert where some are not.
CASES = {
    "silu": (MIXTRAL, torch.float32, None),
    "silu_bfloat16": (MIXTRAL, torch.bfloat16, None),
    "silu_float16": (MIXTRAL, torch.float16, None),
    "clamped_silu": ({"activation": "clamped-silu", "gate_up": "concatenated"}, torch.float32, None),
    "gelu": ({"activation": "gelu", "projections": "out-in"}, torch.float32, None),
    "gelu_bfloat16": ({"activation": "gelu", "projections": "out-in"}, torch.bfloat16, None),
    "gelu_tanh": ({"activation": "gelu-tanh", "routing_weights": "by-slot"}, torch.float32, None),
    "gelu_tanh_float16": ({"activation": "gelu-tanh", "routing_weights": "by-slot"}, torch.float16, None),
    "relu_squared": ({"activation": "relu-squared", "projections": "out-in", "scale": 2.5}, torch.float32, None),
    "relu_squared_bfloat16": ({"activation": "relu-squared", "bias": False}, torch.bfloat16, None),
    "weight_on_input": (MIXTRAL | {"weight_on": "input", "projections": "in-out"}, torch.float32, None),
    "weight_on_input_bfloat16": ({"weight_on": "input", "scale": 0.75}, torch.bfloat16, None),
    "swiglu_concatenated": ({"gate_up": "concatenated", "projections": "out-in"}, torch.float32, None),
    "scaled": (MIXTRAL | {"scale": 2.5}, torch.bfloat16, None),
    "ids_of_minus_one": (MIXTRAL, torch.float32, 0),
    "ids_of_other_ranks": ({}, torch.float32, 5),
    "wide_weights_bfloat16": (MIXTRAL | {"routing_weight_type": "wide"}, torch.bfloat16, None),
    "wide_weights_scaled_float16": (MIXTRAL | {"routing_weight_type": "wide", "scale": 0.7}, torch.float16, None),
    "wide_weights_on_input_bfloat16": ({"weight_on": "input", "routing_weight_type": "wide"}, torch.bfloat16, None),
    "wide_biases_bfloat16": ({"bias_type": "wide"}, torch.bfloat16, None),
    "wide_biases_float16": ({"bias_type": "wide", "projections": "out-in"}, torch.float16, None),
    "wide_output_bfloat16": (MIXTRAL | {"output_type": "wide", "scale": 2.5}, torch.bfloat16, None),
    "wide_weights_and_output_bfloat16": (
        MIXTRAL | {"routing_weight_type": "wide", "output_type": "wide", "scale": 2.5},
        torch.bfloat16,
        None,
    ),
    "shared": ({"shared_experts": 2}, torch.float32, None),
    "shared_scaled_bfloat16": (MIXTRAL | {"scale": 2.5, "shared_experts": 1}, torch.bfloat16, None),
    "shared_relu_squared_float16": ({"activation": "relu-squared", "shared_experts": 1}, torch.float16, None),
    "shared_wide_output_bfloat16": (
        {"bias_type": "wide", "output_type": "wide", "projections": "out-in", "shared_experts": 2},
        torch.bfloat16,
        0,
    ),
}
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


def type_of(dtype, named):
    """The type of a tensor beside an element type."""
    return torch.float32 if named == "wide" and dtype in (torch.bfloat16, torch.float16) else dtype


def activate(x, layer):
    activation = layer["activation"]
    if activation == "relu-squared":
        return F.relu(x).square()
    if layer["gate_up"] == "concatenated":
        gate, up = x.chunk(2, dim=-1)
    else:
        gate, up = x[..., 0::2], x[..., 1::2]
    if activation.startswith("clamped"):
        gate, up = gate.clamp(max=7.0), up.clamp(min=-7.0, max=7.0)
    if activation == "clamped-swiglu":
        return (up + 1) * (gate * torch.sigmoid(gate * 1.702))
    functions = {
        "silu": F.silu,
        "clamped-silu": F.silu,
        "gelu": F.gelu,
        "gelu-tanh": lambda gate: F.gelu(gate, approximate="tanh"),
    }
    return functions[activation](gate) * up


def expert(weights, x, layer):
    """What an expert gives for x."""
    dtype = x.dtype
    for name in ("gate_up_proj", "down_proj"):
        x = x @ (weights[name].T if layer["projections"] == "out-in" else weights[name])
        if layer["bias"]:
            x = (x + weights[name + "_bias"]).to(dtype)
        if name == "gate_up_proj":
            x = activate(x, layer)
    return x


def forward(case, layer, first):
    """The assignments in their order; an expert takes the first CAPACITY of its own.

    A product of a row and a weight has the wider of their types. What goes into a product of matrices is of the type of the
    matrix, so a sum with a wider bias and an input with a wider weight are rounded to that.
    """
    dtype = case["hidden_states"].dtype
    output_type = type_of(dtype, layer["output_type"])
    on_input = layer["weight_on"] == "input"
    taken = [0] * EXPERTS
    slots = torch.zeros(TOKENS, TOP_K, HIDDEN, dtype=dtype if on_input else case["routing_weights"].dtype)
    tokens = case["hidden_states"].reshape(TOKENS, HIDDEN)
    for token in range(TOKENS):
        for slot in range(TOP_K):
            number = int(case["router_indices"][token, slot]) - first
            if not 0 <= number < EXPERTS:
                continue
            taken[number] += 1
            if taken[number] > CAPACITY:
                continue
            by_slot = layer["routing_weights"] == "by-slot"
            weights = case["routing_weights"] if by_slot else case["routing_weights"].reshape(TOKENS, EXPERTS)
            weight = weights[token, slot if by_slot else number]
            x = tokens[token]
            if on_input:
                x = (x * weight).to(dtype)
            own = {name: tensor[number] for name, tensor in case.items() if "proj" in name and "shared" not in name}
            x = expert(own, x, layer)
            slots[token, slot] = x if on_input else x * weight
    output = slots.sum(dim=1, dtype=torch.promote_types(slots.dtype, output_type))
    if layer["scale"] != 1.0:
        output = output * layer["scale"]
    output = output.to(output_type)
    if layer["shared_experts"] > 0:
        shared = {name.removeprefix("shared_"): tensor for name, tensor in case.items() if name.startswith("shared_")}
        output = output + expert(shared, tokens, layer)
    return output.view_as(case["hidden_states"])


def inputs(layer, dtype, first, seed):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape, scale=1.0, dtype=dtype):
        return (scale * torch.randn(*shape, generator=generator)).to(dtype)

    def projection(inner, outer, scale):
        shape = (EXPERTS, outer, inner) if layer["projections"] == "out-in" else (EXPERTS, inner, outer)
        return normal(*shape, scale=scale)

    width = INNER if layer["activation"] == "relu-squared" else 2 * INNER
    ids = torch.stack([torch.randperm(EXPERTS, generator=generator)[:TOP_K] for _ in range(TOKENS)])
    if first is not None:
        # One whole token, and a slot of each other one, are foreign.
        ids = ids + first
        foreign = -1 if first == 0 else first + EXPERTS
        ids[1] = torch.tensor([foreign, foreign])
        for token in range(2, TOKENS):
            ids[token, token % TOP_K] = -1 if first == 0 or token % 3 == 0 else token % first
    weights = (TOKENS, TOP_K) if layer["routing_weights"] == "by-slot" else (1, TOKENS, EXPERTS)
    case = {
        "hidden_states": normal(1, TOKENS, HIDDEN),
        "router_indices": ids,
        "routing_weights": torch.rand(*weights, generator=generator).to(type_of(dtype, layer["routing_weight_type"])),
        "gate_up_proj": projection(HIDDEN, width, 1.2),
        "down_proj": projection(INNER, HIDDEN, 0.5),
    }
    if layer["bias"]:
        bias_type = type_of(dtype, layer["bias_type"])
        case["gate_up_proj_bias"] = normal(EXPERTS, width, dtype=bias_type)
        case["down_proj_bias"] = normal(EXPERTS, HIDDEN, dtype=bias_type)
    shared = layer["shared_experts"]
    if shared > 0:
        case["shared_gate_up_proj"] = projection(HIDDEN, shared * width, 1.2)[0]
        case["shared_down_proj"] = projection(shared * INNER, HIDDEN, 0.5)[0]
        if layer["bias"]:
            case["shared_gate_up_proj_bias"] = normal(shared * width, dtype=bias_type)
            case["shared_down_proj_bias"] = normal(HIDDEN, dtype=bias_type)
    return case


def main():
    to = folder()
    for seed, (name, (named, dtype, first)) in enumerate(CASES.items()):
        layer = USUAL | named
        case = inputs(layer, dtype, first, seed)
        of_both = results(lambda values: forward(values, layer, first or 0), case)
        metadata = {} if first is None else {"first_expert": str(first)}
        save(to / f"{name}.safetensors", case | of_both, CAPACITY, named, **metadata)


if __name__ == "__main__":
    main()
