"""Layers of other models, and the part of one rank: the function gets tensors as such kernels have them."""

import binned_experts
import numpy
import pytest

SMALL = {"tokens": {"max": 24}, "hidden": {"max": 32}, "intermediate": {"max": 32}, "drops": False, "finite": True}


def mixtral(hidden_states, router_indices, routing_weights, gate_up_proj, gate_up_proj_bias, down_proj, swapped=False):
    """SiLU without biases, all gates before all ups, projections [out,in], a routing weight for each slot."""
    assert gate_up_proj_bias is None
    rows = hidden_states.reshape(router_indices.shape[0], hidden_states.shape[2])
    output = numpy.zeros_like(rows)
    for token, experts in enumerate(router_indices):
        for slot, expert in enumerate(experts):
            gate, up = numpy.split(gate_up_proj[expert] @ rows[token], 2)
            gate, up = (up, gate) if swapped else (gate, up)
            row = down_proj[expert] @ (gate / (1 + numpy.exp(-gate)) * up)
            output[token] += routing_weights[token, slot] * row
    return output.reshape(hidden_states.shape)


def run(function, cases=120, **domain):
    with numpy.errstate(all="ignore"):
        return binned_experts.check(
            function, precision="fp32", arrays="numpy", cases=cases, shrink_budget=40, domain=SMALL | domain
        )


def test_a_layer_of_another_model_is_judged():
    run(mixtral, layers=["mixtral"]).assert_agrees()


def test_swapped_halves_are_found():
    def swapped(hidden_states, router_indices, routing_weights, gate_up_proj, gate_up_proj_bias, down_proj):
        return mixtral(**locals(), swapped=True)

    assert not run(swapped, layers=["mixtral"]).agrees


def test_several_layers_are_told_apart():
    seen = set()

    def either(hidden_states, router_indices, routing_weights, gate_up_proj, gate_up_proj_bias, down_proj, layer):
        seen.add(layer.get("activation"))
        if layer["activation"] != "silu":
            raise binned_experts.Skip("silu alone")
        return mixtral(hidden_states, router_indices, routing_weights, gate_up_proj, gate_up_proj_bias, down_proj)

    gelu = {"activation": "gelu", "bias": False}
    report = run(either, layers=["mixtral", gelu])
    assert seen == {"silu", "gelu"} and report.agrees


@pytest.mark.parametrize("is_right", [True, False])
def test_foreign_ids_add_nothing(is_right):
    def of_rank(hidden_states, router_indices, routing_weights, gate_up_proj, gate_up_proj_bias, down_proj, first_expert):
        local = router_indices - (first_expert or 0)
        is_local = (local >= 0) & (local < len(gate_up_proj))
        weights = numpy.where(is_local, routing_weights, 0 if is_right else 1)
        if len(gate_up_proj) == 0:
            return numpy.zeros_like(hidden_states)
        local = numpy.where(is_local, local, 0)
        return mixtral(hidden_states, local, weights.astype(hidden_states.dtype), gate_up_proj, None, down_proj)

    for foreign in ["minus-one", "other-ranks"]:
        assert run(of_rank, layers=["mixtral"], foreign=[foreign]).agrees == is_right


CODES = numpy.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def dequantised(blocks, scales):
    codes = numpy.stack([blocks & 15, blocks >> 4], axis=-1).reshape(*scales.shape, 32)
    values = numpy.ldexp(CODES[codes], scales[..., None].astype(numpy.int32) - 127)
    return values.reshape(*scales.shape[:2], 32 * scales.shape[2]).astype(numpy.float32)


def test_blocks_of_codes_arrive_in_place_of_projections():
    layer = {"activation": "silu", "gate_up": "concatenated", "bias": False, "routing_weights": "by-slot"}
    run(packed, cases=60, layers=[layer | {"projections": "mxfp4"}], hidden={"max": 64}).assert_agrees()


def packed(
    hidden_states,
    router_indices,
    routing_weights,
    gate_up_proj,
    gate_up_proj_blocks,
    gate_up_proj_scales,
    down_proj_blocks,
    down_proj_scales,
):
    assert gate_up_proj is None
    assert gate_up_proj_blocks.dtype == numpy.uint8
    projections = [
        dequantised(gate_up_proj_blocks, gate_up_proj_scales),
        None,
        dequantised(down_proj_blocks, down_proj_scales),
    ]
    return mixtral(hidden_states, router_indices, routing_weights, *projections)


MIXTRAL = {
    "activation": "silu",
    "gate_up": "concatenated",
    "bias": False,
    "projections": "out-in",
    "routing_weights": "by-slot",
}
WIDE_MIXTRAL = MIXTRAL | {"routing_weight_type": "wide", "output_type": "wide"}


def in_f32(hidden_states, router_indices, routing_weights, gate_up_proj, down_proj):
    assert routing_weights.dtype == numpy.float32
    x, first, second = (array.astype(numpy.float32) for array in (hidden_states, gate_up_proj, down_proj))
    return mixtral(x, router_indices, routing_weights, first, None, second)


def test_wide_tensors_are_of_f32():
    def narrow(hidden_states, router_indices, routing_weights, gate_up_proj, down_proj):
        output = in_f32(hidden_states, router_indices, routing_weights, gate_up_proj, down_proj)
        return output.astype(hidden_states.dtype)

    of_layer = {"precision": "f16", "arrays": "numpy", "domain": SMALL | {"layers": [WIDE_MIXTRAL]}}
    with numpy.errstate(all="ignore"):
        binned_experts.check(in_f32, cases=60, **of_layer).assert_agrees()
        report = binned_experts.check(narrow, cases=10, shrink_budget=0, **of_layer)
    assert not report.agrees
    assert "expected element type f32, found f16" in str(report)


def test_a_case_has_the_types_of_its_layer():
    layer = {"bias_type": "wide", "output_type": "wide"}
    case = binned_experts.case(seed=3, precision="bf16", domain=SMALL | {"layers": [layer]}, arrays="numpy")
    types = {name: str(case.inputs[name].dtype) for name in ("gate_up_proj", "gate_up_proj_bias", "down_proj_bias")}
    assert types == {"gate_up_proj": "uint16", "gate_up_proj_bias": "float32", "down_proj_bias": "float32"}
    right = numpy.asarray(case.expected)
    assert case.compare(right.astype(numpy.float32)).agrees
    assert case.compare(right.astype(numpy.float16)).kind == "wrong-type"


def with_shared(
    hidden_states,
    router_indices,
    routing_weights,
    gate_up_proj,
    down_proj,
    shared_gate_up_proj,
    shared_gate_up_proj_bias,
    shared_down_proj,
    layer,
):
    """As mixtral, with a factor on the sum, and with shared experts, which have neither factor nor weight."""
    routed = mixtral(hidden_states, router_indices, routing_weights, gate_up_proj, None, down_proj)
    if "shared_experts" not in layer:
        assert shared_gate_up_proj is None
        return layer["scale"] * routed
    assert shared_gate_up_proj_bias is None
    assert len(shared_gate_up_proj) == layer["shared_experts"] * gate_up_proj.shape[1]
    gate, up = numpy.split(hidden_states @ shared_gate_up_proj.T, 2, axis=-1)
    shared = (gate / (1 + numpy.exp(-gate)) * up) @ shared_down_proj.T
    return layer["scale"] * routed + shared


def test_shared_experts_arrive_beside_the_others():
    two = MIXTRAL | {"scale": 2.5, "shared_experts": 2}
    layers = ["deepseek-v3", "deepseek-v3-shared", two]
    run(with_shared, layers=layers).assert_agrees()
    run(with_shared, cases=40, layers=layers, views=["strided", "transposed"]).assert_agrees()


def test_a_function_that_does_not_name_shared_experts_is_wrong():
    def without(hidden_states, router_indices, routing_weights, gate_up_proj, down_proj):
        return mixtral(hidden_states, router_indices, 2.5 * routing_weights, gate_up_proj, None, down_proj)

    run(without, cases=40, layers=["deepseek-v3"]).assert_agrees()
    assert not run(without, cases=40, layers=["deepseek-v3-shared"]).agrees
