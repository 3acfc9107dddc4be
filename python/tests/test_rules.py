"""The rules of a call: each has a function that breaks it, and one like it that does not."""

import decoys
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


BREAK = [
    (decoys.changes_an_input, "input-changed", 100),
    (decoys.writes_past_the_end, "guard-touched", 200),
    (decoys.writes_before_the_start, "guard-touched", 200),
    (decoys.returns_a_view_of_an_input, "output-aliases", 200),
    (decoys.returns_a_subclass, "not-an-array", CASES),
    (decoys.returns_what_becomes_an_array, "not-an-array", CASES),
    (decoys.returns_one_buffer, "output-overwritten", 100),
    (decoys.fills_later, "written-after-return", 1),
    (decoys.keeps_output_by_address, "kept-result", 1),
    (decoys.keeps_output_by_shape, "kept-result", 1),
    (decoys.keeps_last_output, "kept-result", 1),
    (decoys.keeps_weights_by_address, "stale-weights", 1),
]
KEEP = [
    decoys.joins_its_threads,
    decoys.packs_weights_by_their_bytes,
    decoys.keeps_a_workspace,
    decoys.plans_by_shape,
    decoys.restores_an_input,
    decoys.copies_an_input,
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
