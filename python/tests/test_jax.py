"""Checks of functions with jax arrays, on the CPU."""

import kernels
import numpy
import pytest

from binned_experts import check

jax = pytest.importorskip("jax")


def in_jax(**arguments):
    """The right function on copies of arrays."""
    arrays = {name: numpy.array(value) if isinstance(value, jax.Array) else value for name, value in arguments.items()}
    is_bf16 = arguments["hidden_states"].dtype == jax.numpy.bfloat16
    if is_bf16:
        arrays = {
            name: array.view("uint16") if getattr(array, "dtype", None) == jax.numpy.bfloat16 else array
            for name, array in arrays.items()
        }
    output = kernels.output_of(arrays)
    return jax.numpy.asarray(output.view(jax.numpy.bfloat16) if is_bf16 else output)


def run(kernel, precision="fp32"):
    return check(kernel, precision=precision, domain=kernels.SMALL, arrays="jax", cases=60, shrink_budget=0)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "f16"])
def test_a_right_function_agrees(precision):
    run(in_jax, precision).assert_agrees()


def test_what_is_no_array_of_jax_is_found():
    assert set(run(lambda **arguments: numpy.asarray(in_jax(**arguments))).verdicts.values()) == {"not-an-array"}


def test_fp64_needs_a_setting():
    with pytest.raises(ValueError, match="jax_enable_x64"):
        run(in_jax, "fp64")
