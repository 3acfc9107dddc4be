"""Checks of functions with torch tensors, on the CPU."""

import kernels
import pytest

from binned_experts import case, check

torch = pytest.importorskip("torch")
CASES = 100


def in_torch(**arguments):
    """The right function on the memory of tensors."""
    arrays = {name: value.numpy() if torch.is_tensor(value) else value for name, value in arguments.items()}
    return torch.from_numpy(kernels.output_of(arrays))


def run(kernel, precision="fp32"):
    return check(kernel, precision=precision, domain=kernels.SMALL, cases=CASES, shrink_budget=0)


@pytest.mark.parametrize("precision", ["fp32", "fp64", "f16"])
def test_a_right_function_agrees(precision):
    run(in_torch, precision).assert_agrees()


def test_bf16_has_tensors_of_its_own():
    def kernel(**arguments):
        assert arguments["hidden_states"].dtype == torch.bfloat16
        bits = {
            name: value.view(torch.uint16) if torch.is_tensor(value) and value.is_floating_point() else value
            for name, value in arguments.items()
        }
        return in_torch(**bits).view(torch.bfloat16)

    run(kernel, "bf16").assert_agrees()


class Subclass(torch.Tensor):
    pass


def with_an_attribute(**arguments):
    output = in_torch(**arguments)
    output.numpy = lambda: None
    return output


def changes_an_input(down_proj, **arguments):
    output = in_torch(down_proj=down_proj, **arguments)
    down_proj.add_(1)
    return output


BREAK = [
    (lambda **arguments: in_torch(**arguments).as_subclass(Subclass), "not-an-array"),
    (with_an_attribute, "not-an-array"),
    (lambda **arguments: in_torch(**arguments).numpy(), "not-an-array"),
    (changes_an_input, "input-changed"),
    (lambda hidden_states, **arguments: hidden_states[:, :, :], "output-aliases"),
    (lambda **arguments: in_torch(**arguments).to("meta"), "wrong-device"),
    (lambda **arguments: in_torch(**arguments).double(), "wrong-type"),
    (lambda **arguments: in_torch(**arguments).to(torch.int8), "wrong-type"),
    (lambda **arguments: in_torch(**arguments).flatten(), "wrong-shape"),
]


@pytest.mark.parametrize(("kernel", "finding"), BREAK)
def test_a_broken_rule_has_its_finding(kernel, finding):
    assert finding in run(kernel).verdicts.values()


def test_a_result_may_need_a_gradient_or_have_strides():
    def kernel(**arguments):
        output = in_torch(**arguments)
        return torch.nn.Parameter(output.mT.contiguous().mT)

    run(kernel).assert_agrees()


def test_a_case_has_tensors():
    one = case(seed=3, precision="bf16")
    assert one.inputs["hidden_states"].dtype == torch.bfloat16 and one.expected.dtype == torch.float64
    assert one.line == 'binned_experts.case(seed=3, precision="bf16")'


def test_a_device_that_is_not_here_is_named():
    with pytest.raises(ValueError, match="device: expected one that torch has here, found 'nothing'"):
        check(in_torch, precision="fp32", device="nothing")
