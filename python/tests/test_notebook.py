"""What a notebook shows of reports and verdicts."""

import re
import xml.etree.ElementTree as elements

import numpy
from kernels import SMALL, function, plus_one_forgotten, right

import binned_experts


def shown(value):
    """The HTML of a value; it is read as XML, so that a tag that is not closed is found."""
    html = value._repr_html_()
    return html, elements.fromstring(f"<all>{html}</all>")


def test_a_report_is_a_table_with_its_failures():
    wrong = function(plus_one_forgotten)
    report = binned_experts.check(wrong, precision="fp32", arrays="numpy", domain=SMALL, cases=20)
    html, tree = shown(report)
    names, values = ([cell.text for cell in row] for row in tree.find("table"))
    counts = dict(zip(names, values))
    assert counts == {"cases": "20", **{name: str(cases) for name, cases in report.counts.items()}}
    assert tree.find("p").text == str(report).splitlines()[-1]
    (failure, totals) = tree.findall("details")
    assert failure.find("summary").text == f"{report.failures[0].name}: disagree"
    assert failure.find("pre").text == str(report.failures[0])


def test_a_verdict_has_a_picture_of_wrong_values():
    case = binned_experts.case(seed=3, precision="fp32", arrays="numpy", domain={"tokens": {"min": 3, "max": 9}})
    output = case.call(right)["output"]
    assert "<svg" not in shown(case.compare(output))[0]
    tokens, hidden = output.shape[0] * output.shape[1], output.shape[2]
    output.reshape(tokens, hidden)[2, hidden - 1] = numpy.nan
    html, tree = shown(case.compare(output))
    cells = [cell for cell in tree.iter() if cell.tag.endswith("rect")]
    assert len(cells) == min(tokens, 64) * min(hidden, 64)
    (black,) = (cell for cell in cells if cell.get("fill") == "black")
    assert re.match("token 2, column ", black[0].text) and black.get("x") == str(8 * (min(hidden, 64) - 1))


def test_what_a_case_says_is_escaped():
    verdict = binned_experts.case(seed=3, precision="fp32", arrays="numpy").compare(numpy.zeros(1, "complex64"))
    html, tree = shown(verdict)
    assert not verdict.agrees and tree.find("pre").text == str(verdict)
