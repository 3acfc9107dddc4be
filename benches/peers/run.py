"""Times peers on the seed's workloads; see README.md."""

import argparse
import importlib.metadata
import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import torch

import chart
import dense
import inputs
import ours
import peers
import report
from check import exact
from measure import measure
from timing import clock_of

MIN_SECONDS = 0.3
TINY_SECONDS = 0.01


def main():
    arguments = parse()
    workloads = chosen(arguments)
    own = ours.read(arguments.ours) if arguments.ours else []
    environment = describe(arguments.device)
    print("\n".join(f"{name}: {value}" for name, value in environment.items() if value), flush=True)

    known = {workload.name for workload in workloads}
    for name in sorted({row["workload"] for row in own} - known):
        print(f"no such workload in this run: {name}, of {arguments.ours}", file=sys.stderr)
    own = [row for row in own if row["workload"] in known]

    rows = []
    for some in measure_all(arguments, workloads):
        rows += some
        # Whatever ends the run early, what was measured is kept.
        write(arguments.out, environment, rows, own, arguments.tiny)
    print("\n" + report.tables(rows, own))
    print(f"\nwritten: peers.jsonl, peers.md and peers.svg in {arguments.out}")
    return 1 if any(row["status"] == "wrong" for row in rows + own) else 0


def parse():
    parser = argparse.ArgumentParser(description="Times peers on the seed's workloads.")
    parser.add_argument("--ours", type=Path, metavar="PATH", help="rows of our own benchmark, as in ours.py")
    parser.add_argument("--out", type=Path, metavar="DIR", default=Path("target/bench-results"),
                        help="folder for peers.jsonl, peers.md and peers.svg [default: %(default)s]")
    parser.add_argument("--workloads", nargs="+", metavar="TEXT",
                        help="only those whose name contains one of these")
    parser.add_argument("--peers", nargs="+", metavar="TEXT", help="only those whose name contains one of these")
    parser.add_argument("--seconds", type=float, default=MIN_SECONDS,
                        help="own load before a sustained time [default: %(default)s, which is also the least]")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small workloads, whose times mean nothing")
    arguments = parser.parse_args()
    if arguments.device == "cpu" and not arguments.tiny:
        parser.error("a CPU is for the small workloads: add --tiny")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU; --device cpu --tiny runs the code without one")
    if not arguments.tiny:
        arguments.seconds = max(arguments.seconds, MIN_SECONDS)
    if arguments.peers:
        arguments.peers = [peer for peer in peers.ALL if _contains(peer.name, arguments.peers)]
        if not arguments.peers:
            parser.error("no peer has such a name: " + ", ".join(peer.name for peer in peers.ALL))
    else:
        arguments.peers = peers.ALL
    return arguments


def chosen(arguments):
    """The workloads of this run."""
    every = inputs.tiny(arguments.device) if arguments.tiny else inputs.of_seed(arguments.device)
    some = [one for one in every if not arguments.workloads or _contains(one.name, arguments.workloads)]
    if not some:
        sys.exit("no workload has such a name: " + ", ".join(one.name for one in every))
    return some


def _contains(name, texts):
    return any(text in name for text in texts)


def measure_all(arguments, workloads):
    """Yields the rows of the dense products, then workload by workload those of the peers and of the floor."""
    clock = clock_of(arguments.device)
    seconds = TINY_SECONDS if arguments.tiny else arguments.seconds
    shape = dense.TINY if arguments.tiny else dense.SHAPE
    anchors = [shown(row) for row in dense.measure(arguments.device, shape, clock, seconds)]
    yield anchors
    weights = {}
    for workload in workloads:
        if workload.experts not in weights:
            weights[workload.experts] = inputs.Weights.draw(workload)
        drawn = inputs.Inputs.draw(workload, weights[workload.experts])
        expected = exact(drawn)
        rows = [
            shown(measure(peer, name, drawn, expected, clock, seconds))
            for peer in arguments.peers
            for name in peers.CLASSES
        ]
        yield rows + [shown(dense.floor(workload, anchors))]
        if arguments.device == "cuda":
            torch.cuda.empty_cache()


def shown(row):
    """Prints a row in short while the run goes on."""
    if row.get("burst_ms") is None:
        result = f"{row['status']}: {row['reason']}"
    else:
        times = f"{report.number(row['burst_ms'])} / {report.number(row['sustained_ms'])} ms"
        error = f", error {report.error_text(row['relative_error'])}" if "relative_error" in row else ""
        result = f"{times}, {row.get('mode', 'computed')}{error}"
    print(f"{row['workload']}  {row['peer']}  {row['class']}: {result}", file=sys.stderr, flush=True)
    return row


def describe(device):
    """What belongs to the run as a whole."""
    is_cuda = device == "cuda"
    return {
        "device": torch.cuda.get_device_name() if is_cuda else f"cpu ({platform.machine()})",
        "driver": driver() if is_cuda else None,
        "cuda": torch.version.cuda if is_cuda else None,
        "torch": torch.__version__,
        "triton": version("triton"),
        "transformers": version("transformers"),
        "python": platform.python_version(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def driver():
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def write(directory, environment, rows, own, is_tiny):
    directory.mkdir(parents=True, exist_ok=True)
    title = "Small workloads, for a test alone" if is_tiny else "The seed's workloads"
    for name, text in (
        ("peers.jsonl", report.records(environment, rows)),
        ("peers.md", report.page(environment, rows, own)),
        ("peers.svg", chart.chart(environment, rows, own, title)),
    ):
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ours.Malformed, OSError) as error:
        sys.exit(f"FAILED: {error}")
