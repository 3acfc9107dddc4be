"""Functions in a process of their own."""

import isolated
import pytest
from kernels import SMALL

from binned_experts import check


def run(kernel, **settings):
    settings = {"cases": 60, "domain": SMALL, "shrink_budget": 0, **settings}
    return check(kernel, precision="fp32", arrays="numpy", **settings)


@pytest.mark.parametrize("kernel", [isolated.agrees, isolated.disagrees, isolated.changes_an_input])
def test_the_verdicts_are_those_of_this_process(kernel):
    apart, here = run(kernel, isolate=True), run(kernel)
    assert apart.verdicts == here.verdicts
    assert (apart.kinds, apart.agrees) == (here.kinds, here.agrees)
    assert [str(failure) for failure in apart.failures] == [str(failure) for failure in here.failures]


def test_a_process_that_dies_is_started_again_and_its_case_charged():
    report = run(isolated.dies, isolate=True)
    died = [name for name, verdict in report.verdicts.items() if verdict != "agree"]
    assert 0 < len(died) < 20 and {report.verdicts[name] for name in died} == {"crashed"}
    assert "out of memory" in str(report) and "exit status: 7" in str(report)
    # Each of them has the size at which it dies, or a call before it has.
    assert report.failures[0].case.inputs["hidden_states"].shape[1] == 5 or "warm-up" in str(report.failures[0])


def test_a_call_that_hangs_is_ended():
    report = run(isolated.hangs, isolate=True, time_limit=0.5, cases=60)
    assert set(report.verdicts.values()) == {"agree", "timed-out"}


def test_a_function_must_be_one_that_pickle_can_name():
    with pytest.raises(TypeError, match="isolate: expected a function at the top of a module, found"):
        run(lambda hidden_states: None, isolate=True)
