"""The rules of a call: each has a function that breaks it, and one like it that does not."""

import threading
import time

import numpy
import pytest
from kernels import SMALL, output_of, right

from binned_experts import check
from binned_experts._arrays._numpy import Numpy

CASES = 300


def kinds(kernel, cases=CASES, seed=0):
    """The kinds of failures of a function, each with its number of cases."""
    report = check(kernel, precision="fp32", domain=SMALL, arrays="numpy", cases=cases, seed=seed, shrink_budget=0)
    found = {}
    for verdict in report.verdicts.values():
        found[verdict] = found.get(verdict, 0) + 1
    assert report.agrees == (set(found) == {"agree"})
    return found


def changes_an_input():
    def kernel(hidden_states, **case):
        output = output_of({"hidden_states": hidden_states, **case})
        hidden_states *= 2
        return output

    return kernel


def writes_past_the_end():
    def kernel(down_proj, **case):
        output = output_of({"down_proj": down_proj, **case})
        beyond = numpy.lib.stride_tricks.as_strided(down_proj.reshape(-1), (down_proj.size + 1,), (4,))
        beyond[-1] = 0
        return output

    return kernel


def writes_before_the_start():
    def kernel(hidden_states, **case):
        output = output_of({"hidden_states": hidden_states, **case})
        whole = hidden_states
        while isinstance(whole.base, numpy.ndarray):
            whole = whole.base
        # The bytes that numpy.frombuffer was given.
        numpy.frombuffer(whole.base, numpy.uint8)[255] = 0
        return output

    return kernel


def returns_a_view_of_an_input():
    def kernel(hidden_states, **case):
        output = output_of({"hidden_states": hidden_states, **case})
        return hidden_states if numpy.array_equal(output, hidden_states) else hidden_states.view()

    return kernel


class Subclass(numpy.ndarray):
    pass


class Interface:
    def __init__(self, array):
        self.__array_interface__ = array.__array_interface__
        self.array = array


def returns_a_subclass():
    return lambda **case: output_of(case).view(Subclass)


def returns_what_becomes_an_array():
    return lambda **case: Interface(output_of(case))


def returns_one_buffer():
    buffer = numpy.zeros(1 << 20, numpy.float32)

    def kernel(**case):
        output = output_of(case)
        view = buffer[: output.size].reshape(output.shape)
        view[...] = output
        return view

    return kernel


def fills_later():
    def kernel(**case):
        output = output_of(case)
        later = numpy.zeros_like(output)

        def fill():
            time.sleep(0.0005)
            later[...] = output

        threading.Thread(target=fill).start()
        return later

    return kernel


def joins_its_threads():
    def kernel(**case):
        output = output_of(case)
        later = numpy.zeros_like(output)
        thread = threading.Thread(target=lambda: numpy.copyto(later, output))
        thread.start()
        thread.join()
        return later

    return kernel


def keeps_output_by_address():
    kept = {}

    def kernel(hidden_states, **case):
        key = hidden_states.ctypes.data, hidden_states.shape, case["router_indices"].shape, case["gate_up_proj"].shape
        if key not in kept:
            kept.clear()
            kept[key] = output_of({"hidden_states": hidden_states, **case})
        return kept[key].copy()

    return kernel


def keeps_output_by_shape():
    kept = {}

    def kernel(**case):
        key = tuple(getattr(value, "shape", value) for value in case.values())
        if key not in kept:
            kept[key] = output_of(case)
        return kept[key].copy()

    return kernel


def keeps_last_output():
    kept = []

    def kernel(hidden_states, **case):
        if not kept or kept[0].shape != hidden_states.shape:
            kept[:] = [output_of({"hidden_states": hidden_states, **case})]
        return kept[0].copy()

    return kernel


def keeps_weights_by_address():
    kept = {}

    def kernel(gate_up_proj, gate_up_proj_bias, down_proj, down_proj_bias, **case):
        weights = dict(
            gate_up_proj=gate_up_proj,
            gate_up_proj_bias=gate_up_proj_bias,
            down_proj=down_proj,
            down_proj_bias=down_proj_bias,
        )
        key = tuple((array.ctypes.data, array.shape) for array in weights.values())
        if key not in kept:
            kept.clear()
            kept[key] = {name: array.copy() for name, array in weights.items()}
        return output_of({**kept[key], **case})

    return kernel


def packs_weights_by_their_bytes():
    kept = {}

    def kernel(gate_up_proj, down_proj, **case):
        key = gate_up_proj.shape, gate_up_proj.tobytes(), down_proj.shape, down_proj.tobytes()
        if key not in kept:
            kept.clear()
            kept[key] = gate_up_proj.copy(), down_proj.copy()
        gate_up_proj, down_proj = kept[key]
        return output_of({"gate_up_proj": gate_up_proj, "down_proj": down_proj, **case})

    return kernel


def keeps_a_workspace():
    workspace = numpy.empty(1 << 20, numpy.float32)

    def kernel(**case):
        output = output_of(case)
        view = workspace[: output.size].reshape(output.shape)
        view[...] = output
        return view.copy()

    return kernel


def plans_by_shape():
    plans = {}

    def kernel(**case):
        plans.setdefault(case["hidden_states"].shape, len(plans))
        return output_of(case)

    return kernel


def restores_an_input():
    def kernel(hidden_states, **case):
        was = hidden_states.copy()
        hidden_states[...] = 0
        hidden_states[...] = was
        return output_of({"hidden_states": hidden_states, **case})

    return kernel


def copies_an_input():
    def kernel(hidden_states, **case):
        return output_of({"hidden_states": hidden_states.copy(), **case})

    return kernel


BREAK = [
    (changes_an_input, "input-changed", 100),
    (writes_past_the_end, "guard-touched", 200),
    (writes_before_the_start, "guard-touched", 200),
    (returns_a_view_of_an_input, "output-aliases", 200),
    (returns_a_subclass, "not-an-array", CASES),
    (returns_what_becomes_an_array, "not-an-array", CASES),
    (returns_one_buffer, "output-overwritten", 100),
    (fills_later, "written-after-return", 1),
    (keeps_output_by_address, "kept-result", 1),
    (keeps_output_by_shape, "kept-result", 1),
    (keeps_last_output, "kept-result", 1),
    (keeps_weights_by_address, "stale-weights", 1),
]
KEEP = [
    joins_its_threads,
    packs_weights_by_their_bytes,
    keeps_a_workspace,
    plans_by_shape,
    restores_an_input,
    copies_an_input,
]


@pytest.mark.parametrize(("kernel", "finding", "least"), BREAK, ids=[kernel.__name__ for kernel, _, _ in BREAK])
def test_a_broken_rule_has_its_finding(kernel, finding, least):
    assert kinds(kernel()).get(finding, 0) >= least


@pytest.mark.parametrize("kernel", KEEP, ids=[kernel.__name__ for kernel in KEEP])
def test_a_function_that_keeps_the_rules_is_clean_in_every_run(kernel):
    kernel = kernel()
    assert [kinds(kernel, cases=25, seed=1000 * run) for run in range(20)] == [{"agree": 25}] * 20


def test_the_right_function_breaks_none():
    assert kinds(right) == {"agree": CASES}


def test_after_a_lost_device_no_call_is_made(monkeypatch):
    calls = []

    def loses_it(**case):
        calls.append(len(calls))
        if len(calls) == 20:
            raise RuntimeError("an illegal memory access was encountered")
        return output_of(case)

    monkeypatch.setattr(Numpy, "is_lost", lambda self, error: "illegal memory access" in str(error))
    report = check(loses_it, precision="fp32", domain=SMALL, arrays="numpy", cases=100)
    assert len(calls) == 20 and report.counts["fault"] == 1 and not report.agrees
    (reason,) = report.declined
    assert "isolate=True" in reason and report.counts["agree"] + report.counts["declined"] == 99
