"""The function in numpy, right and with bugs, as functions for ``check`` and as programs for ``--command``.

    kernels.py BUG

Both are ``examples/engines/numpy_engine.py``, of which a bug replaces a step.
"""

import importlib.util
import pathlib
import sys

import numpy

ENGINE = pathlib.Path(__file__).parents[2] / "examples" / "engines" / "numpy_engine.py"
# Cases that take a millisecond or two.
SMALL = {"tokens": {"max": 8}, "hidden": {"max": 16}, "intermediate": {"max": 16}, "experts": {"max": 8}}
NAMES = {"float32": "F32", "float64": "F64", "float16": "F16", "uint16": "BF16"}


def engine():
    """A new copy of the engine's module."""
    spec = importlib.util.spec_from_file_location("numpy_engine", ENGINE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plus_one_forgotten(module):
    def activate(gate_up, layer, alpha, limit):
        gate, up = numpy.minimum(gate_up[:, 0::2], limit), numpy.clip(gate_up[:, 1::2], -limit, limit)
        return up * (gate / (1 + numpy.exp(-alpha * gate)))

    module.activate = activate


def gate_clamped_on_both_sides(module):
    def activate(gate_up, layer, alpha, limit):
        clamped = numpy.clip(gate_up, -limit, limit)
        return (clamped[:, 1::2] + 1) * (clamped[:, 0::2] / (1 + numpy.exp(-alpha * clamped[:, 0::2])))

    module.activate = activate


def later_first(module):
    """Equal experts in descending flat index: others are dropped."""

    def sort_by_expert(experts_of, experts):
        order = numpy.lexsort((-numpy.arange(len(experts_of)), experts_of))
        return order, numpy.cumsum(numpy.bincount(experts_of, minlength=experts)[:experts])

    module.sort_by_expert = sort_by_expert


def nan_swallowed(module):
    right = module.activate
    module.activate = lambda *arguments: numpy.nan_to_num(right(*arguments), nan=0.0)


def bias_dropped(module):
    module.affine = lambda case, name, expert, x, layer: x @ case[name][expert]


def refuses_no_tokens(module):
    right = module.forward

    def forward(case, *arguments):
        if case["router_indices"].shape[0] == 0:
            raise ValueError("no tokens")
        return right(case, *arguments)

    module.forward = forward


BUGS = (plus_one_forgotten, gate_clamped_on_both_sides, later_first, nan_swallowed, bias_dropped, refuses_no_tokens)


def function(bug=None):
    """The function with a bug, for arrays of any element type."""
    module = engine()
    if bug is not None:
        bug(module)

    def moe(
        hidden_states,
        router_indices,
        routing_weights,
        gate_up_proj,
        gate_up_proj_bias,
        down_proj,
        down_proj_bias,
        expert_capacity,
        alpha,
        limit,
        sorted_indices=None,
    ):
        case = dict(
            hidden_states=hidden_states,
            routing_weights=routing_weights,
            gate_up_proj=gate_up_proj,
            gate_up_proj_bias=gate_up_proj_bias,
            down_proj=down_proj,
            down_proj_bias=down_proj_bias,
        )
        dtype = NAMES[str(hidden_states.dtype)]
        case = {name: module.widen(dtype, array) for name, array in case.items()}
        case["router_indices"] = router_indices
        if sorted_indices is not None:
            case["sorted_indices"] = sorted_indices
        with numpy.errstate(all="ignore"):
            output, order, bins = module.forward(case, expert_capacity, module.USUAL, 0, alpha, limit)
        return {"output": module.narrow(dtype, output), "sorted_indices": order, "bins": bins}

    return moe


right = function()


def output_of(case):
    """The right output for the arguments of a call."""
    return right(**case)["output"]


if __name__ == "__main__":
    program = engine()
    dict((bug.__name__, bug) for bug in BUGS)[sys.argv[1]](program)
    program.main()
