"""How the time of a layer grows: our kernels and others in one process, over tokens, experts, experts a token, width,
skew of the routing, and seconds of load.

    python3 benches/peers/sweep.py --out DIR                      # on a GPU: some minutes
    python3 benches/peers/sweep.py --out DIR --tiny --device cpu  # small sizes, whose times mean nothing

Writes sweep.md, and a chart for each sweep. A call is replayed from a CUDA graph where it can be captured; its time is
that of a burst. The floor is the larger of two times: for the weights of the experts that have rows, and for the
products.

The fit of a peer is ms = c + bytes / β + operations / ρ over its points of a class but for those of skew and load, with
no number below 0, by the least squares of relative errors. A peer that is slower at some sizes for other reasons fits
badly; the column *off* has the median relative error.
"""

import argparse
import math
import time
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median

import peers
import timing
import torch
from bf16 import MOST_ERROR, Workload, error, inputs_of, weights_of
from curves import curves
from packages import Unavailable, triton_kernels
from rates import BYTES_A_SECOND, OPERATIONS_A_SECOND
from timing import Uncapturable, capture, clock_of, first_line

# Ours first.
PEERS = {
    "bf16": {
        "binned-experts": peers.binned_experts,
        "torch grouped_mm": peers.grouped_mm,
        "triton_kernels": triton_kernels,
    },
    "fp32": {"binned-experts": peers.binned_experts, "torch grouped_mm": peers.grouped_mm},
}
ON_CPU = {name: {"torch loop": peers.loop(peers.Plain)} for name in PEERS}
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
# Bytes and operations a millisecond; fp32 takes three 16-bit products.
BYTES_A_MS = BYTES_A_SECOND / 1e3
OPERATIONS_A_MS = {"bf16": OPERATIONS_A_SECOND / 1e3, "fp32": OPERATIONS_A_SECOND / 3e3}
REST_SECONDS = 0.5


@dataclass(frozen=True)
class Point:
    """Sizes of a call, and how uneven its routing is: expert i is drawn with a weight of (i + 1)^-skew."""

    tokens: int
    width: int
    experts: int
    top_k: int
    skew: float = 0.0


@dataclass(frozen=True)
class Sweep:
    name: str
    variable: str
    precision: str
    points: dict  # what is varied: Point


@dataclass(frozen=True)
class Timed:
    peer: str
    at: float
    ms: float
    bytes: float
    operations: float


def sweeps(tiny):
    """All of them but that of load."""
    if tiny:
        return [
            Sweep("tokens-bf16", "T", "bf16", {t: Point(t, 64, 4, 2) for t in (1, 8)}),
            Sweep("skew-bf16", "skew", "bf16", {s: Point(8, 64, 4, 2, s) for s in (0.0, 1.0)}),
        ]
    powers = [2**i for i in range(16)]
    return [
        Sweep("tokens-bf16", "T at E 32, K 4", "bf16", {t: Point(t, 2880, 32, 4) for t in powers}),
        Sweep("skew-bf16", "skew at T 4096", "bf16", {s: Point(4096, 2880, 32, 4, s) for s in (0.0, 0.5, 1.0, 1.5)}),
        Sweep("top_k-bf16", "K at T 4096, E 32", "bf16", {k: Point(4096, 2880, 32, k) for k in (1, 2, 4, 8)}),
        Sweep(
            "experts-bf16", "E at T 1024, K 4", "bf16", {e: Point(1024, 2880, e, 4) for e in (4, 8, 16, 32, 64, 128)}
        ),
        Sweep(
            "width-bf16",
            "H = I at T 1024, E 8, K 4",
            "bf16",
            {w: Point(1024, w, 8, 4) for w in (256, 512, 1024, 2048, 2880, 4096, 7168)},
        ),
        Sweep("tokens-fp32", "T at E 4, K 2", "fp32", {t: Point(t, 2880, 4, 2) for t in powers[:14:2]}),
    ]


def workload_of(point, device):
    return Workload(point.tokens, point.width, point.width, point.experts, point.top_k, device)


def ready(build, inputs, precision):
    """The call of a peer, captured where it can be, once its output is right."""
    call = build(inputs, precision)
    try:
        call = capture(call)
    except Uncapturable:
        pass
    off = error(inputs, call())
    if not off <= MOST_ERROR:
        raise Unavailable(f"wrong: relative error {off:.1e}")
    return call


def swept(sweep, device, said):
    """The times of all peers at the points of a sweep."""
    found, weights, of, dtype = [], None, None, DTYPES[sweep.precision]
    for at, point in sweep.points.items():
        if (point.width, point.experts) != of:
            weights = None
            weights, of = weights_of(point.width, point.experts, device, dtype), (point.width, point.experts)
        inputs = inputs_of(workload_of(point, device), weights, point.skew)
        matrix = 3 * point.width**2
        read = inputs.experts.unique().numel() * matrix * weights.down.element_size()
        operations = 2.0 * inputs.workload.rows * matrix
        for name, build in of_device(device)[sweep.precision].items():
            try:
                ms = clock_of(device).burst(ready(build, inputs, sweep.precision))
            except (Unavailable, ImportError, RuntimeError) as reason:
                said(f"{sweep.name}, {at:g}: {name}: {first_line(reason)}")
                continue
            found.append(Timed(name, at, ms, read, operations))
    return found


def loaded(tokens, device, said):
    """Milliseconds of a forward right after so many seconds of such forwards, at E 32 and K 4."""
    point = Point(tokens, 2880, 32, 4)
    inputs = inputs_of(workload_of(point, device), weights_of(point.width, point.experts, device))
    found = []
    for name, build in of_device(device)["bf16"].items():
        try:
            call = ready(build, inputs, "bf16")
        except (Unavailable, ImportError, RuntimeError) as reason:
            said(f"load: {name}: {first_line(reason)}")
            continue
        for seconds in (0.0, 0.1, 0.3, 1.0, 2.0):
            time.sleep(REST_SECONDS)
            call()
            one = clock_of(device).queue(call, 3)
            clock_of(device).queue(call, 1 + int(1e3 * seconds / median(one)))
            found.append(Timed(name, seconds, median(clock_of(device).queue(call, 3)), 0.0, 0.0))
    return found


def of_device(device):
    return PEERS if device == "cuda" else ON_CPU


def fit(timed):
    """c in ms, β in bytes and ρ in operations a ms, and the median relative error."""
    rows = torch.tensor([[1.0, one.bytes, one.operations] for one in timed], dtype=torch.float64)
    ms = torch.tensor([one.ms for one in timed], dtype=torch.float64)
    scale = rows.amax(0)
    best = None
    for count in (1, 2, 3):
        for used in map(list, combinations(range(3), count)):
            part = (rows / scale)[:, used] / ms[:, None]
            numbers = torch.linalg.lstsq(part, torch.ones_like(ms)[:, None]).solution[:, 0]
            off = part @ numbers - 1
            if (numbers >= 0).all() and (best is None or off.square().sum() < best[0]):
                whole = torch.zeros(3, dtype=torch.float64)
                whole[used] = numbers
                best = off.square().sum(), whole / scale, off.abs().median().item()
    _, (constant, of_bytes, of_operations), off = best
    return constant.item(), inverse(of_bytes), inverse(of_operations), off


def inverse(number):
    return 1 / number.item() if number > 0 else math.inf


def table(sweep_name, variable, floors, timed):
    """Milliseconds by point and peer, as Markdown."""
    names = list(dict.fromkeys(one.peer for one in timed))
    by = {(one.peer, one.at): one.ms for one in timed}
    lines = [f"## {sweep_name}", "", f"| {variable} | " + " | ".join([*names, "floor"]) + " |"]
    lines.append("|---" * (len(names) + 2) + "|")
    for at in dict.fromkeys(one.at for one in timed):
        cells = [f"{by[name, at]:.4f}" if (name, at) in by else "" for name in names]
        lines.append(f"| {at:g} | " + " | ".join([*cells, f"{floors[at]:.4f}" if at in floors else ""]) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where the results are written")
    parser.add_argument("--device", default="cuda", help="where the peers run (cuda)")
    parser.add_argument("--tiny", action="store_true", help="small sizes, whose times mean nothing")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    device = arguments.device
    torch.manual_seed(0)
    parts, fitted = [f"torch {torch.__version__}, {described(device)}\n"], {}

    def shown(name, variable, timed, precision):
        rate = OPERATIONS_A_MS[precision]
        floors = {one.at: max(one.bytes / BYTES_A_MS, one.operations / rate) for one in timed if one.bytes}
        parts.append(table(name, variable, floors, timed))
        series = {}
        for one in timed:
            series.setdefault(one.peer, []).append((one.at, one.ms))
        (arguments.out / f"{name}.svg").write_text(curves(name, variable, series, list(floors.items())))
        print(parts[-1], flush=True)

    with torch.no_grad():
        for sweep in sweeps(arguments.tiny):
            with timing.precision(sweep.precision):
                timed = swept(sweep, device, print)
            shown(sweep.name, sweep.variable, timed, sweep.precision)
            if "skew" not in sweep.name:
                for one in timed:
                    fitted.setdefault((sweep.precision, one.peer), []).append(one)
        if device == "cuda":
            shown("load-bf16", "seconds of load at T 16384", loaded(16384, device, print), "bf16")
    lines = ["## Fit", "", "| class | peer | points | c, µs | β, TB/s | ρ, TFLOP/s | off |", "|---" * 7 + "|"]
    for (name, peer), timed in fitted.items():
        constant, of_bytes, of_operations, off = fit(timed)
        rates = f"{of_bytes / 1e9:.2f} | {of_operations / 1e9:.0f}"
        lines.append(f"| {name} | {peer} | {len(timed)} | {1e3 * constant:.1f} | {rates} | {off:.2f} |")
    parts.append("\n".join(lines) + "\n")
    print(parts[-1])
    (arguments.out / "sweep.md").write_text("\n".join(parts))


def described(device):
    return torch.cuda.get_device_name(0) if device == "cuda" else device


if __name__ == "__main__":
    main()
