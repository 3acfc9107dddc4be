"""Tensors that are views of larger ones."""

import binned_experts
import numpy
import pytest
from test_layers import SMALL, mixtral

VIEWS = ["strided", "stepped", "offset", "transposed"]


def run(function, arrays="numpy", **domain):
    with numpy.errstate(all="ignore"):
        return binned_experts.check(
            function,
            precision="fp32",
            arrays=arrays,
            cases=40,
            shrink_budget=0,
            domain=SMALL | {"layers": ["mixtral"], "views": VIEWS} | domain,
        )


def test_arrays_are_views():
    seen = set()

    def viewed(hidden_states, router_indices, routing_weights, gate_up_proj, down_proj):
        arrays = hidden_states, router_indices, routing_weights, gate_up_proj, down_proj
        seen.update(at for at, array in enumerate(arrays) if array.size and not array.flags.c_contiguous)
        return mixtral(hidden_states, router_indices, routing_weights, gate_up_proj, None, down_proj)

    run(viewed).assert_agrees()
    assert seen == {0, 1, 2, 3, 4}


def test_torch_tensors_are_views():
    torch = pytest.importorskip("torch")
    offsets, strides = set(), set()

    def viewed(hidden_states, router_indices, routing_weights, gate_up_proj, down_proj):
        offsets.add(down_proj.storage_offset() > hidden_states.storage_offset())
        strides.add(down_proj.stride(-1) == 1)
        inputs = hidden_states, router_indices, routing_weights, gate_up_proj
        rows = mixtral(*(tensor.numpy() for tensor in inputs), None, down_proj.numpy())
        return torch.from_numpy(rows)

    run(viewed, arrays="torch").assert_agrees()
    assert offsets == strides == {True, False}


def test_strides_that_are_ignored_are_found():
    def contiguous(hidden_states, router_indices, routing_weights, gate_up_proj, down_proj):
        rows = down_proj.base if down_proj.base is not None else down_proj
        down_proj = rows.reshape(-1)[: down_proj.size].reshape(down_proj.shape)
        return mixtral(hidden_states, router_indices, routing_weights, gate_up_proj, None, down_proj)

    assert not run(contiguous).agrees


def test_a_view_that_changes_is_found():
    def clears(hidden_states, router_indices, routing_weights, gate_up_proj, down_proj):
        output = mixtral(hidden_states, router_indices, routing_weights, gate_up_proj, None, down_proj)
        hidden_states.fill(0)
        return output

    assert any(kind.startswith("input-changed") for kind in run(clears).kinds)


def test_jax_declines_views():
    pytest.importorskip("jax")

    def any_output(hidden_states, router_indices, routing_weights, gate_up_proj, down_proj):
        raise binned_experts.Skip("contiguous")

    report = run(any_output, arrays="jax")
    assert "these arrays have no strides" in report.declined
