"""Cases as values."""

import resource

import numpy
import pytest
from kernels import output_of, right

import binned_experts
from binned_experts import case, cases


@pytest.mark.parametrize("one", cases(20, precision="fp32", arrays="numpy"))
def test_the_readme_way(one):
    one.compare(right(**one.inputs)).assert_agrees()


def test_ids_are_readable():
    ids = [one.id for one in cases(3, seed=7, precision="bf16", arrays="numpy")]
    assert ids[0].startswith("seed7-bf16-T") and len(set(ids)) == 3
    one = case(seed=7, precision="bf16", arrays="numpy")
    assert (one.id, one.__name__, str(one)) == (ids[0], ids[0], ids[0])


def test_pytest_names_its_tests_by_the_cases(request):
    names = [item.name for item in request.session.items if "test_the_readme_way" in item.name]
    assert not names or all("seed" in name and "-H" in name for name in names)


def test_arrays_shapes_and_bounds():
    one = case(seed=3, precision="fp32", arrays="numpy")
    inputs = one.inputs
    assert inputs["hidden_states"].dtype == numpy.float32 and inputs["router_indices"].dtype == numpy.int64
    assert one.expected.shape == one.bound.shape == inputs["hidden_states"].shape
    assert one.expected.dtype == one.bound.dtype == numpy.float64
    output = output_of(inputs)
    with numpy.errstate(all="ignore"):
        near = numpy.abs(output.astype(float) - one.expected) <= one.bound
    assert numpy.all(near | (output == one.expected) | numpy.isnan(one.expected))
    # New arrays each time.
    inputs["hidden_states"][...] = 0
    assert not numpy.array_equal(one.inputs["hidden_states"], inputs["hidden_states"])


def test_a_verdict_says_what_is_wrong_and_the_line_that_makes_the_case_again():
    one = case(seed=3, precision="fp32", arrays="numpy")
    output = output_of(one.inputs)
    assert one.compare(output) and one.compare(output).used <= 1
    verdict = one.compare(output * 2 + 1)
    assert not verdict and verdict.kind == "disagree" and verdict.used is None
    assert one.line in str(verdict) and "expected" in str(verdict)
    with pytest.raises(AssertionError, match="values wrong"):
        verdict.assert_agrees()
    assert one.compare(output[:, :-1]).kind == "wrong-shape"
    assert one.compare(output.astype("float64")).kind == "wrong-type"
    assert one.compare(output.astype("int8")).kind == "wrong-type"
    assert one.compare(output.tolist()).kind == "not-an-array"


def test_a_line_makes_its_case_again():
    for one in [
        *cases(20, precision="bf16", arrays="numpy"),
        *cases(20, precision="f16", domain={"drops": False}, arrays="numpy"),
    ]:
        again = eval(one.line)
        assert (again.spec, again.precision) == (one.spec, one.precision)
        text = case(one.spec, precision=one.precision, arrays="numpy")
        assert text.spec == one.spec and eval(text.line).spec == one.spec


def test_a_large_capacity_takes_no_memory():
    """PyTorch's stages have a row for each place of a capacity, 740 MB of them here."""
    sizes = "batch = 1\nsequence = 3\nhidden = 2\nintermediate = 2881\nexperts = 4\ntop_k = 1\ncapacity = 2000"
    rest = 'alpha = 1.702\nlimit = 7.0\nseed = 1\nrouting = "uniform"\nvalues = "gentle"\nweights = "normalised"'
    one = case(f'element = "f32"\n{sizes}\n{rest}', arrays="numpy")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert one.compare(one.expected.astype("float32"))
    assert not one.compare(numpy.zeros((1, 3, 2), "float32"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_cases_are_those_of_a_check():
    drawn = {one.spec for one in cases(30, precision="fp32", arrays="numpy", domain={"top_k": {"max": 2}})}

    def wrong(hidden_states, expert_capacity, alpha, limit, **rest):
        return hidden_states[:, :, :0].copy()

    def without_order(hidden_states, expert_capacity, alpha, limit):
        return wrong(hidden_states, expert_capacity, alpha, limit)

    report = binned_experts.check(
        without_order, precision="fp32", arrays="numpy", cases=30, shrink_budget=0, domain={"top_k": {"max": 2}}
    )
    failing = {failure.case.spec for failure in report.failures}
    assert failing and failing <= drawn


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({}, TypeError, "expected either the text of a case or a seed, found neither"),
        ({"text": "", "seed": 1}, TypeError, "found both"),
        ({"text": "element = 7"}, ValueError, "case: "),
        ({"text": "element = 'f32'"}, ValueError, "missing field"),
        ({"seed": 1, "precision": "fp8"}, ValueError, "expected one of"),
    ],
)
def test_bad_input_is_named(arguments, error, text):
    with pytest.raises(error, match=text):
        case(**arguments, arrays="numpy")


def test_a_precision_needs_cases_of_its_type():
    with pytest.raises(ValueError, match="precision: bf16 needs a case of bf16, found one of f32"):
        case(case(seed=1, arrays="numpy").spec, precision="bf16", arrays="numpy")
