"""Runs one check of the gallery, and writes its result as JSON.

    python -m published._one MODULE NAME DEVICE CASES FILE
"""

import json
import sys

import binned_experts

from . import _checks

# Seconds for a call: the first one of a shape compiles.
TIME_LIMIT = 120


def main(module, name, device, cases, path):
    check = _checks.checks_of(module)[name]
    report = binned_experts.check(
        check.function,
        precision=check.precision,
        domain=check.domain,
        cases=int(cases),
        shapes=check.shapes,
        device=device,
        arrays=check.arrays,
        isolate=True,
        time_limit=TIME_LIMIT,
        shrink_budget=check.shrink_budget,
    )
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"name": name, "module": module, "version": check.version, **content(report)}, file)


def content(report):
    return {
        "domain": str(report.domain),
        "cases": report.cases,
        "agrees": report.agrees,
        "is_complete": not report.interrupted,
        "counts": report.counts,
        "declined": report.declined,
        "kinds": report.kinds,
        "failures": [failed(failure) for failure in report.failures],
        "report": str(report),
    }


def failed(failure):
    smallest = failure.shrunk or failure.case
    return {
        "case": failure.name,
        "kind": failure.kind,
        "seconds": failure.seconds,
        "smallest": None if smallest is None else {"id": smallest.id, "text": smallest.spec},
        "text": str(failure),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
