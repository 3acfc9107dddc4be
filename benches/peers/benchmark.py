"""Times our kernels and peers by the package's `run_benchmark`, and the same calls in bursts with other bytes in the L2
cache before each, in one process.

    python3 benches/peers/benchmark.py --out DIR          # the seed's workloads, fp32, on a GPU
    python3 benches/peers/benchmark.py --device cpu --tiny

Needs the package `binned-experts`. Writes `NAME.jsonl` for each, records that the seed's `summarize` reads, and prints
Markdown. The status is 1 if a record has a finding.
"""

import argparse
import sys
from pathlib import Path
from types import SimpleNamespace

import torch

import inputs
import peers
from binned_experts import KernelTypeEnum, run_benchmark
from binned_experts import Workload as Sizes
from timing import clock_of, precision

PEERS = {
    "binned-experts": peers.binned_experts,
    "torch grouped_mm": peers.grouped_mm,
    "transformers eager": peers.transformers_experts("eager"),
    "transformers grouped_mm": peers.transformers_experts("grouped_mm"),
}


def main():
    arguments = parse()
    workloads = inputs.tiny(arguments.device) if arguments.tiny else inputs.of_seed(arguments.device)
    workloads = [workload for workload in workloads if (arguments.workloads or "") in workload.name]
    arguments.out.mkdir(parents=True, exist_ok=True)
    are_ok = True
    print("| workload | peer | run_benchmark p50 ms | burst ms | ratio |\n|---|---|--:|--:|--:|")
    for name in arguments.peers:
        with torch.no_grad(), precision("fp32"):
            found = benchmark(name, workloads, arguments)
            for workload, record in zip(workloads, found.records):
                print(line(name, workload, record), flush=True)
            are_ok &= found.ok
    return int(not are_ok)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where the records are written")
    parser.add_argument("--device", default="cuda", help="where the peers run (cuda)")
    parser.add_argument("--tiny", action="store_true", help="small workloads, whose times mean nothing")
    parser.add_argument("--workloads", help="only those with this in their names")
    parser.add_argument("--reps", type=int, default=10, help="timed calls of a workload (10)")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), metavar="PEER")
    return parser.parse_args()


def benchmark(name, workloads, arguments):
    """The records of a peer."""
    sizes = [
        Sizes(workload.batch, workload.sequence, workload.experts, workload.hidden, 2 * workload.intermediate)
        for workload in workloads
    ]
    return run_benchmark(
        KernelTypeEnum.OPENAI_MOE,
        name.replace(" ", "_"),
        {"family": name.split()[0]},
        call,
        reps=arguments.reps,
        dtype="float32",
        device=arguments.device,
        setup=setup_of(PEERS[name], arguments.device),
        workloads=sizes,
        jsonl=arguments.out / f"{name.replace(' ', '_')}.jsonl",
    )


def setup_of(build, device):
    """A function of the weights that builds a peer. What the peer computes from is put in before each call."""

    def setup(gate_up_proj, gate_up_proj_bias, down_proj, down_proj_bias):
        experts, intermediate, hidden = down_proj.shape
        given = SimpleNamespace(
            # No peer of the list looks at the number of tokens.
            workload=inputs.Workload(device, 0, 0, hidden, intermediate, experts),
            weights=inputs.Weights(gate_up_proj, gate_up_proj_bias, down_proj, down_proj_bias),
        )
        return given, build(given, "fp32")

    return setup


def call(state, hidden_states, router_indices, routing_weights):
    given, peer = state
    given.tokens, given.experts = hidden_states.flatten(0, 1), router_indices
    given.routing_weights = routing_weights.flatten(0, 1)
    given.scales = given.routing_weights.gather(1, router_indices)
    return peer().view_as(hidden_states)


def line(name, workload, record):
    """A row of the table, with the same calls in a burst."""
    if not record["ok"]:
        return f"| {workload.name} | {name} | {record['err']['type']} | – | – |"
    drawn = inputs.Inputs.draw(workload, inputs.Weights.draw(workload))
    weights = drawn.weights
    state = setup_of(PEERS[name], workload.device)(
        weights.gate_up, weights.gate_up_bias, weights.down, weights.down_bias
    )
    shape = workload.batch, workload.sequence, -1
    arguments = drawn.tokens.view(shape), drawn.experts, drawn.routing_weights.view(shape)
    burst = clock_of(workload.device).cold_burst(lambda: call(state, *arguments))
    p50 = record["lat_ms"]["p50"]
    return f"| {workload.name} | {name} | {p50:.3f} | {burst:.3f} | {p50 / burst:.3f} |"


if __name__ == "__main__":
    sys.exit(main())
