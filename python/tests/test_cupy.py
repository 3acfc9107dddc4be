"""Checks of functions with cupy arrays, on a GPU."""

import kernels
import pytest

from binned_experts import check

cupy = pytest.importorskip("cupy")
pytestmark = pytest.mark.skipif(not cupy.cuda.is_available(), reason="no GPU")


def in_cupy(**arguments):
    """The right function on copies of arrays."""
    arrays = {name: value.get() if isinstance(value, cupy.ndarray) else value for name, value in arguments.items()}
    return cupy.asarray(kernels.output_of(arrays))


def run(kernel, precision="fp32", domain=kernels.SMALL):
    options = {"arrays": "cupy", "device": "cuda", "cases": 60, "shrink_budget": 0}
    return check(kernel, precision=precision, domain=domain, **options)


@pytest.mark.parametrize("precision", ["fp32", "fp64", "bf16", "f16"])
def test_a_right_function_agrees(precision):
    run(in_cupy, precision).assert_agrees()


def test_views_have_their_strides():
    report = run(in_cupy, domain={**kernels.SMALL, "views": ["strided", "stepped", "offset", "transposed"]})
    assert report.counts["declined"] == 0, str(report)
    report.assert_agrees()


def changes_an_input(down_proj, **arguments):
    output = in_cupy(down_proj=down_proj, **arguments)
    down_proj += 1
    return output


def writes_behind_an_input(router_indices, **arguments):
    output = in_cupy(router_indices=router_indices, **arguments)
    behind = router_indices.data + router_indices.nbytes
    cupy.ndarray(1, "int64", behind)[...] = 0
    return output


@pytest.mark.parametrize(
    ("kernel", "rule"),
    [
        (lambda **arguments: in_cupy(**arguments).get(), "not-an-array"),
        (changes_an_input, "input-changed"),
        (writes_behind_an_input, "guard-touched"),
        (lambda hidden_states, **arguments: hidden_states[:, :, :], "output-aliases"),
    ],
)
def test_a_broken_rule_is_found(kernel, rule):
    assert rule in run(kernel).verdicts.values()
