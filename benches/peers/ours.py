"""Rows of our own benchmark, one JSON object a line:

{"workload": "cuda_B1_S512_E2", "peer": "binned-experts", "class": "fp32", "burst_ms": 0.5, "sustained_ms": 0.6,
 "relative_error": 1.9e-7, "max_error": 2.1e-5}

`class` is fp32 or tf32. `sustained_ms` may be null or missing, and other fields are ignored.
"""

import json
import math

from check import TOLERANCE

CLASSES = ("fp32", "tf32")


class Malformed(Exception):
    """A line is not such a record."""


def read(path):
    """The rows of a file, with a status each. A row whose error its class may not have is wrong, and has no times."""
    rows = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    rows.append(_row(json.loads(line)))
                except ValueError as error:
                    raise Malformed(f"{path}:{number}: {error}") from error
    keys = [(row["workload"], row["peer"], row["class"]) for row in rows]
    for key in keys:
        if keys.count(key) > 1:
            raise Malformed(f"{path}: several rows of {' '.join(key)}")
    return rows


def _row(record):
    if not isinstance(record, dict):
        raise ValueError("not an object")
    row = {"source": "ours"}
    for name in ("workload", "peer", "class"):
        value = record.get(name)
        if not isinstance(value, str) or not value:
            raise ValueError(f"{name} is not a text")
        row[name] = value
    if row["class"] not in CLASSES:
        raise ValueError(f"class is none of {', '.join(CLASSES)}")
    row["burst_ms"] = _number(record, "burst_ms", positive=True)
    sustained = record.get("sustained_ms")
    row["sustained_ms"] = None if sustained is None else _number(record, "sustained_ms", positive=True)
    row["relative_error"] = _number(record, "relative_error")
    row["max_error"] = _number(record, "max_error")
    if row["relative_error"] <= TOLERANCE[row["class"]]:
        return row | {"status": "ok"}
    reason = f"the error is beyond what {row['class']} may have"
    return row | {"status": "wrong", "reason": reason, "burst_ms": None, "sustained_ms": None}


def _number(record, name, positive=False):
    """A finite number that is not negative. Python reads NaN from JSON; it is refused here."""
    value = record.get(name)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < 0 or (positive and value == 0):
        raise ValueError(f"{name} is not a {'positive' if positive else 'non-negative'} number")
    return value
