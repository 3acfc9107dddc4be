"""The rows as lines of JSON and as Markdown tables."""

import json
import math
from collections import Counter

from peers import CLASSES, LOOPS

TITLES = {"burst_ms": "ms in bursts", "sustained_ms": "ms under its own load"}


def records(environment, rows):
    """A line for each row, with the environment; what is not finite becomes null."""
    lines = []
    for row in rows:
        line = {name: _finite(value) for name, value in (row | environment).items()}
        lines.append(json.dumps(line, allow_nan=False) + "\n")
    return "".join(lines)


def _finite(value):
    return None if isinstance(value, float) and not math.isfinite(value) else value


def page(environment, rows, ours):
    """The whole report."""
    facts = [f"- {name}: {value}" for name, value in environment.items() if value]
    parts = ["# Peers on the seed's workloads", "\n".join(facts), tables(rows, ours), EXPLANATION]
    return "\n\n".join(parts) + "\n"


EXPLANATION = """\
![ms of each workload](peers.svg)

Medians. *g*: replayed from a CUDA graph, otherwise eager; the better of the two in bursts. Bold: the best peer.
*Floor*: three fp16 products for each of the layer's, at the rate of the dense fp16 product. Ratios are a peer's time
over that of our fastest row of the class; TF32 loop is the faster of the two. Our rows were measured by our own
benchmark, on inputs of the same distributions but not the same bits. Relative errors are Frobenius norms against f64."""


def tables(rows, ours):
    """All tables, and why what is missing is missing."""
    parts = [_dense(rows)]
    layers = [row for row in rows if "shape" not in row]
    workloads = list(dict.fromkeys(row["workload"] for row in layers))
    for name in CLASSES:
        if not _peers(layers + ours, name):
            continue
        for field, title in TITLES.items():
            parts.append(f"## {name}, {title}\n\n" + _times(workloads, layers, ours, name, field))
        parts.append(f"## {name}, relative error\n\n" + _errors(workloads, layers, ours, name))
    parts.append(_missing(rows + ours))
    return "\n\n".join(part for part in parts if part)


def _times(workloads, rows, ours, name, field):
    peers = _peers(rows, name)
    own = _peers(ours, name)
    floor = ["floor"] if name == "fp32" else []
    ratios = []
    if own:
        ratios = ["best peer / ours"] + (["TF32 loop / ours"] if name == "fp32" else [])
    body = []
    for workload in workloads:
        mine = _of(ours, workload, name)
        theirs = _of(rows, workload, name)
        best = _least(theirs, peers, field)
        cells = [_time(mine.get(peer), field) for peer in own]
        for peer in peers:
            cell = _time(theirs.get(peer), field)
            is_best = best is not None and theirs.get(peer, {}).get(field) == best
            cells.append(f"**{cell}**" if is_best else cell)
        cells += [_time(theirs.get(peer), field) for peer in floor]
        if ratios:
            fastest = _least(mine, own, field)
            loop = _least(_of(rows, workload, "tf32"), LOOPS, field)
            cells += [_ratio(numerator, fastest) for numerator in (best, loop)][: len(ratios)]
        body.append([workload] + cells)
    return _table(["workload"] + own + peers + floor + ratios, body)


def _errors(workloads, rows, ours, name):
    own, peers = _peers(ours, name), _peers(rows, name)
    body = []
    for workload in workloads:
        mine, theirs = _of(ours, workload, name), _of(rows, workload, name)
        cells = [_error(mine.get(peer)) for peer in own] + [_error(theirs.get(peer)) for peer in peers]
        body.append([workload] + cells)
    return _table(["workload"] + own + peers, body)


def _dense(rows):
    """The dense products; empty where there are none."""
    body = [
        [
            row["class"],
            _time(row, "burst_ms"),
            _time(row, "sustained_ms"),
            number(row.get("tflops")),
            _error(row),
        ]
        for row in rows
        if "shape" in row
    ]
    if not body:
        return ""
    M, N, K = next(row["shape"] for row in rows if "shape" in row)
    header = ["class", "burst ms", "sustained ms", "burst TFLOP/s", "relative error"]
    return f"## One dense product, M {M}, N {N}, K {K}\n\n" + _table(header, body)


def _missing(rows):
    """Each reason once, with the number of workloads that it concerns."""
    reasons = Counter(
        (row["peer"], row["class"], f"{row['status']}: {row['reason']}") for row in rows if row.get("reason")
    )
    lines = [f"- {peer}, {name}, {count} ×: {reason}" for (peer, name, reason), count in reasons.items()]
    return "## Without a time\n\n" + "\n".join(lines) if lines else ""


def _peers(rows, name):
    """Names of peers that gave an output in a class, in the order of their first rows."""
    peers = [row["peer"] for row in rows if row["class"] == name and row["status"] in ("ok", "wrong")]
    return list(dict.fromkeys(peers))


def _of(rows, workload, name):
    return {row["peer"]: row for row in rows if row["workload"] == workload and row["class"] == name}


def _least(rows, peers, field):
    times = [rows[peer][field] for peer in peers if peer in rows and rows[peer].get(field) is not None]
    return min(times, default=None)


def _ratio(numerator, denominator):
    return "–" if numerator is None or denominator is None else f"{numerator / denominator:.2f}"


def _time(row, field):
    if row is not None and row["status"] == "wrong":
        return "wrong"
    if row is None or row.get(field) is None:
        return "–"
    return number(row[field]) + (" g" if row.get("mode") == "graph" else "")


def _error(row):
    if row is None or row.get("relative_error") is None:
        return "–"
    return error_text(row["relative_error"])


def error_text(value):
    return f"{value:.1e}".replace("e-0", "e-") if math.isfinite(value) else "not finite"


def number(value):
    """Three figures, without an exponent."""
    if value is None:
        return "–"
    if value <= 0:
        return f"{value:g}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


def _table(header, body):
    widths = [max(len(line[i]) for line in [header] + body) for i in range(len(header))]
    aligned = [[cell.ljust(widths[0]) if i == 0 else cell.rjust(widths[i]) for i, cell in enumerate(line)]
               for line in [header] + body]
    rule = ["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in [aligned[0], rule] + aligned[1:])
