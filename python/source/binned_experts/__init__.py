"""Tests mixture-of-experts (MoE) kernels from Python.

``check`` draws cases, calls a function with the arrays of each, and compares what it returns with the right result,
within error bounds that are derived for every element. ``cases`` and ``case`` give single cases as values.
``run_benchmark`` times a function on the workloads of a public benchmark, and judges every output that it times.

Symbols: T tokens (= B·S), H hidden, I intermediate, E experts, K top_k, C capacity.
"""

from ._benchmark import Benchmark, KernelTypeEnum, Workload, run_benchmark
from ._cases import Case, case, cases
from ._check import check
from ._native import Domain, Failure, Report, Verdict
from ._rules import Skip

__all__ = [
    "Benchmark",
    "Case",
    "Domain",
    "Failure",
    "KernelTypeEnum",
    "Report",
    "Skip",
    "Verdict",
    "Workload",
    "case",
    "cases",
    "check",
    "run_benchmark",
]
