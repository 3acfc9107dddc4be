"""Checks of functions with numpy arrays."""

import time

import numpy
import pytest
from kernels import SMALL, right

import binned_experts
from binned_experts import Skip, check

CASES = 100


def run(kernel, **settings):
    settings = {"precision": "fp32", "arrays": "numpy", "domain": SMALL, "cases": CASES, "shrink_budget": 0, **settings}
    return check(kernel, **settings)


@pytest.mark.parametrize("precision", ["fp32", "fp64", "bf16", "f16"])
def test_a_right_function_agrees(precision):
    report = run(right, precision=precision)
    report.assert_agrees()
    assert report.counts == {"agree": CASES, "disagree": 0, "fault": 0, "declined": 0, "skipped": 0}
    assert set(report.verdicts) == {f"seed {seed}" for seed in range(CASES)}
    assert report.coverage["dropped assignments"] > 10
    assert "AGREE" in str(report) and "AGREE" in repr(report)


def test_a_wrong_function_is_told_with_the_line_that_makes_its_case_again():
    def scaled(**case):
        return 1.01 * right(**case)["output"]

    report = run(scaled, shrink_budget=200)
    assert not report.agrees and report.counts["disagree"] > 15
    failure = report.failures[0]
    assert failure.kind == "disagree" and failure.name.startswith("seed ")
    assert failure.shrunk.line in str(report)
    again = eval(failure.shrunk.line, {"binned_experts": binned_experts})
    assert again.spec == failure.shrunk.spec and "hidden = 1\n" in again.spec
    assert not again.compare(scaled(**again.inputs))
    with pytest.raises(AssertionError, match="scaled fails on seed"):
        report.assert_agrees()


def test_only_the_arguments_that_a_function_takes_are_passed():
    seen = {}

    def shapes(hidden_states, router_indices, down_proj, other="unused"):
        seen[hidden_states.shape, router_indices.shape, down_proj.shape] = other
        raise Skip("only looks")

    report = run(shapes)
    assert set(seen.values()) == {"unused"} and len(seen) > 20
    assert report.declined == {"only looks": CASES} and not report.agrees


def test_what_a_function_has_no_parameter_for_is_not_asked_of_it():
    def usual(
        hidden_states, router_indices, routing_weights, gate_up_proj, gate_up_proj_bias, down_proj, down_proj_bias
    ):
        return right(**locals(), expert_capacity=router_indices.size, alpha=1.702, limit=7.0)["output"]

    report = run(usual)
    report.assert_agrees()
    assert "nothing dropped, alpha 1.702, limit 7" in str(report)
    assert report.coverage["dropped assignments"] == 0
    # The domain says that it does something else.
    assert not run(usual, domain={**SMALL, "alpha": [1.0]}).agrees


def test_an_explicit_order_goes_to_a_function_that_takes_one():
    assert run(right, cases=60).coverage["ties in another order"] > 3

    def without(
        hidden_states, router_indices, routing_weights, gate_up_proj, gate_up_proj_bias, down_proj, down_proj_bias,
        expert_capacity, alpha, limit,
    ):  # fmt: skip
        return right(**locals())["output"]

    report = run(without, cases=60)
    report.assert_agrees()
    assert report.coverage["ties in another order"] == 0
    with pytest.raises(ValueError, match="expected a function with a parameter sorted_indices, found none"):
        run(without, domain={"tie_order": "given"})


@pytest.mark.parametrize(
    "domain",
    [{"hidden": {"multiple_of": 8, "min": 8}, "limit": [float("inf")]}, "hidden = { multiple_of = 8, min = 8 }", None],
)
def test_cases_lie_in_the_domain(domain, tmp_path):
    if domain is None:
        domain = tmp_path / "kernel.toml"
        domain.write_text("hidden = { multiple_of = 8, min = 8 }")
    seen = set()

    def kernel(hidden_states, **case):
        seen.add(hidden_states.shape[2])
        return right(hidden_states=hidden_states, **case)

    run(kernel, domain=domain, cases=30).assert_agrees()
    assert len(seen) > 3 and all(hidden > 0 and hidden % 8 == 0 for hidden in seen)


def test_memory_that_nothing_wrote_is_found():
    def unset(hidden_states, router_indices, **case):
        held = numpy.empty_like(hidden_states)
        output = right(hidden_states=hidden_states, router_indices=router_indices, **case)["output"]
        held[0, 1:] = output[0, 1:]
        held[1:] = output[1:]
        return held

    assert run(unset).counts["disagree"] > 30


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"precision": "fp33"}, ValueError, "precision: expected one of"),
        ({"arrays": "lists"}, ValueError, "arrays: expected one of torch, numpy, jax, cupy; found 'lists'"),
        ({"device": "cuda"}, ValueError, 'device: expected one of cpu for arrays="numpy", found'),
        ({"domain": {"hiden": 1}}, ValueError, "unknown field `hiden`"),
        ({"domain": 7}, TypeError, "domain: expected a dict, TOML or a path, found int"),
        ({"domain": "no-such-file.toml"}, FileNotFoundError, "no-such-file.toml"),
        ({"time_limit": 0}, ValueError, "time_limit: expected seconds above 0, found 0"),
    ],
)
def test_bad_input_is_named(settings, error, text):
    with pytest.raises(error, match=text):
        run(right, **settings)


def test_a_long_call_is_told_of(capfd):
    def slow(**case):
        time.sleep(0.2)
        return right(**case)

    run(slow, cases=2, time_limit=0.05).assert_agrees()
    assert "slow: no result after 0.05 s of a call with T=" in capfd.readouterr().err


def test_a_function_must_have_parameters_of_a_case():
    with pytest.raises(TypeError, match="expected parameters among hidden_states, .*; found weights"):
        run(lambda hidden_states, weights: None)
    with pytest.raises(TypeError, match="wrap it in a def"):
        run(min)


def test_an_error_is_a_failure_and_what_is_no_error_of_a_kernel_ends_the_run():
    def fails(**case):
        raise RuntimeError("no workspace for 17 rows")

    report = run(fails)
    assert report.counts["fault"] == CASES
    assert report.kinds == {"refused: RuntimeError: no workspace for # rows": CASES}

    class Ends(BaseException):
        pass

    def ends(**case):
        raise Ends

    with pytest.raises(Ends):
        run(ends)
