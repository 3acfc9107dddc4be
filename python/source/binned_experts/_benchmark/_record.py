"""A record: the fields of the seed's harness, and an object ``referee`` with what that has not."""

import importlib.metadata
import math
import platform
import statistics
import time

from ._floor import LEAST, floor_ms, why_none
from ._session import WRONG, Finding

# Beyond this share of the median the middle half of the times is told of.
UNSTEADY = 0.1
TIME = ("repeat-faster", "below-floor")


def timestamp():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def environment(arrays):
    return {**arrays.facts(), "py": platform.python_version(), "plat": platform.platform()}


def record(run, session, finding):
    """The record of the calls of a workload, which a finding may have ended. ``run`` is what all records have in common."""
    workload, caller = session.workload, session.caller
    floor = floor_of(run, session)
    if finding is None and floor["share"] is not None and floor["shortest"] < LEAST:
        message = f"a call took {floor['shortest']:.2f} of the time that the device needs at least"
        finding = Finding("below-floor", message)
    timed = [observed for observed in session.calls if observed.kind == "timed"]
    of_setup = caller.setup_seconds
    return {
        "ts": timestamp(),
        "run": run["run"],
        "impl": run["impl"],
        "tags": run["tags"],
        "wl": workload.record(run["device"], run["dtype"]),
        "env": run["env"],
        "lat_ms": None if finding else latencies([1e3 * observed.seconds for observed in timed], run["warmup"]),
        "compile_ms": None if finding else 1e3 * session.calls[0].seconds,
        "peak_bytes": None if finding or caller.peak_bytes is None else caller.peak_bytes + caller.input_bytes,
        "ok": finding is None,
        "absmax": None if finding else correctness(timed)["absmax"],
        "corr": {} if finding else correctness(timed),
        "err": error(finding),
        "referee": {
            "version": importlib.metadata.version("binned-experts"),
            "level": "cooperative",
            "status": status(finding),
            "findings": [{"kind": finding.kind, "message": str(finding)}] if finding else [],
            "precision": session.precision,
            "seed": run["seed"],
            "contract": {"setup": caller.setup is not None, "reuses_output": caller.reuses_output},
            "setup_ms": None if of_setup is None else 1e3 * of_setup,
            "setup_bytes": caller.setup_bytes,
            "input_bytes": caller.input_bytes,
            "evicted_bytes": caller.arrays.clock.evicted,
            "rows": min(session.rows, workload.tokens),
            "bound_used": max((observed.used for observed in session.calls), default=None),
            "deterministic": session.is_deterministic if session.pairs else None,
            "other_size_declined": session.declined,
            "repeat": {"pairs": len(session.pairs), "ratio": session.repeat_ratio()},
            "floor": floor,
            "calls": [
                {
                    "kind": observed.kind,
                    "seed": observed.seed,
                    "ms": 1e3 * observed.seconds,
                    "host_ms": 1e3 * observed.host_seconds,
                    "rows": observed.rows,
                    "bound_used": observed.used,
                }
                for observed in session.calls
            ],
        },
    }


def latencies(times, warmup):
    """Of milliseconds, as the seed's harness has them."""
    ordered = sorted(times)

    def quantile(share):
        return ordered[int(share * (len(ordered) - 1))]

    spread = quantile(0.75) - quantile(0.25)
    return {
        "p10": quantile(0.1),
        "p50": quantile(0.5),
        "p90": quantile(0.9),
        "mean": statistics.fmean(times),
        "iqr": spread,
        "raw_times": times,
        "has_warnings": spread > UNSTEADY * quantile(0.5),
        "reps": len(times),
        "warmup": warmup,
    }


def correctness(timed):
    """How far the judged rows of the timed calls are from the definition."""
    largest, means, squares = zip(*(observed.errors for observed in timed))
    rows = sum(observed.rows for observed in timed)
    return {
        "ok": True,
        "rtol": None,
        "atol": None,
        "absmax": max(largest),
        "mae": statistics.fmean(means),
        "mse": statistics.fmean(squares),
        "ref": f"the definition in f64, on {rows} rows",
    }


def floor_of(run, session):
    """The floor of the median timed call, and the share that it is of its time; why there is none."""
    gpu = run["env"]["gpu"] if run["device"].startswith("cuda") else ""
    width = {"float32": 4}.get(run["dtype"], 2)
    floors = [
        (floor_ms(gpu, session.precision, session.workload, observed.necessary, width), 1e3 * observed.seconds)
        for observed in session.calls
        if observed.kind == "timed"
    ]
    if not floors or floors[0][0] is None:
        return {"ms": None, "share": None, "shortest": None, "why": why_none(gpu)}
    return {
        "ms": statistics.median(floor for floor, _ in floors),
        "share": statistics.median(floor / took for floor, took in floors),
        "shortest": min(took / floor for floor, took in floors),
        "why": None,
    }


def status(finding):
    """What a record is worth in a word."""
    if finding is None:
        return "ok"
    if finding.kind in ("error", "declined"):
        return finding.kind
    if finding.kind in TIME:
        return "time"
    return "wrong" if finding.kind in WRONG else "rule"


def error(finding):
    """The type and the message of an exception of the function, or of a finding."""
    if finding is None:
        return None
    name, _, message = str(finding).partition(": ") if finding.kind == "error" else (finding.kind, "", str(finding))
    return {"type": name, "msg": message}


def finite(value):
    """The value with ``None`` for numbers that JSON has not."""
    if isinstance(value, dict):
        return {name: finite(field) for name, field in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
