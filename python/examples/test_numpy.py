"""A kernel in a file of pytest: a test for each case, named by its sizes."""

import numpy as np
import pytest
from numpy_ten_lines import moe

import binned_experts

# The kernel has no capacity, and alpha and limit are in its code.
DOMAIN = {"tokens": {"max": 16}, "drops": False, "alpha": [1.702], "limit": [7.0]}


@pytest.mark.parametrize("case", binned_experts.cases(50, precision="fp32", domain=DOMAIN, arrays="numpy"))
def test_moe(case):
    with np.errstate(all="ignore"):
        output = case.call(moe)
    case.compare(output).assert_agrees()


def test_many_at_once():
    with np.errstate(all="ignore"):
        binned_experts.check(moe, precision="fp32", domain=DOMAIN, arrays="numpy", cases=100).assert_agrees()
