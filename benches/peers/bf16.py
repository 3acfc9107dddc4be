"""Our kernels and others in bf16 at the sizes of gpt-oss, in one process:

    python3 benches/peers/bf16.py [--tiny]

Ours need the package `binned-experts`. Prints Markdown. A call is replayed from a CUDA graph where it can be captured.
Calls alternate between two layers with weights and routings of their own. Each output must lie within 1e-2 of the exact
one on two tokens, in the 2-norm.
"""

import argparse
import time
from dataclasses import dataclass
from statistics import median

import torch

import packages
import peers
import serving
from check import ALPHA, LIMIT
from packages import Unavailable
from timing import Uncapturable, capture, first_line

PEERS = (
    ("binned-experts", peers.binned_experts),
    ("torch loop + Triton", peers.loop(peers.Fused)),
    ("torch grouped_mm + Triton", peers.grouped_mm),
    ("transformers grouped_mm", peers.transformers_experts("grouped_mm")),
    ("triton_kernels", packages.triton_kernels),
    ("quack", packages.quack),
    ("vLLM", serving.vllm),
    ("SGLang", serving.sglang),
)
BURSTS = 7
LOAD_SECONDS = 0.3
MOST_ERROR = 1e-2


@dataclass(frozen=True)
class Workload:
    tokens: int
    hidden: int
    intermediate: int
    experts: int
    top_k: int
    device: str

    @property
    def rows(self):
        return self.tokens * self.top_k


@dataclass(frozen=True)
class Weights:
    gate_up: torch.Tensor  # [E, H, 2I]
    gate_up_bias: torch.Tensor
    down: torch.Tensor  # [E, I, H]
    down_bias: torch.Tensor


@dataclass(frozen=True)
class Inputs:
    workload: Workload
    weights: Weights
    tokens: torch.Tensor  # [T, H]
    experts: torch.Tensor  # [T, K] int64, different ones
    routing_weights: torch.Tensor  # [T, E]
    scales: torch.Tensor  # [T, K]: those of a token's experts


def sizes(tiny):
    """H and I, K, and the numbers of experts and of tokens."""
    if tiny:
        return 128, 2, (4,), (1, 40)
    return 2880, 4, (32, 128), (1, 8, 64, 512, 4096, 16384)


def weights_of(width, experts, device, dtype=torch.bfloat16):
    def draw(deviation, *shape):
        return torch.randn(shape, device=device, dtype=dtype).mul_(deviation)

    scale = width**-0.5
    return Weights(
        draw(3 * scale, experts, width, 2 * width),
        draw(0.1, experts, 2 * width),
        draw(scale, experts, width, width),
        draw(0.1, experts, width),
    )


def inputs_of(workload, weights, skew=0.0):
    """In the type of the weights. Expert i is drawn with a weight of (i + 1)^-skew."""
    device, dtype = workload.device, weights.down.dtype
    shape = workload.tokens, workload.experts
    scores = -torch.rand(shape, device=device).log()
    scores = -scores.log() - skew * torch.arange(1, workload.experts + 1, device=device).log()
    experts = scores.topk(workload.top_k, dim=1).indices
    routing_weights = torch.randn(shape, device=device, dtype=dtype).mul_(0.5)
    return Inputs(
        workload,
        weights,
        torch.randn(workload.tokens, workload.hidden, device=device, dtype=dtype),
        experts,
        routing_weights,
        routing_weights.gather(1, experts),
    )


def error(inputs, output):
    """Of the first and the last token against f64, relative in the 2-norm."""
    weights, found, expected = inputs.weights, [], []
    for token in {0, inputs.workload.tokens - 1}:
        total = torch.zeros(inputs.workload.hidden, device=output.device, dtype=torch.float64)
        for expert, scale in zip(inputs.experts[token].tolist(), inputs.scales[token].double()):
            hidden = inputs.tokens[token].double() @ weights.gate_up[expert].double() + weights.gate_up_bias[expert]
            gate, up = hidden[0::2].clamp(max=LIMIT), hidden[1::2].clamp(-LIMIT, LIMIT)
            activated = (up + 1) * gate * torch.sigmoid(ALPHA * gate)
            total += scale * (activated @ weights.down[expert].double() + weights.down_bias[expert])
        expected.append(total)
        found.append(output[token].double())
    expected, found = torch.cat(expected), torch.cat(found)
    return ((found - expected).norm() / expected.norm()).item()


def milliseconds(calls, count):
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for i in range(count):
        calls[i % len(calls)]()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / count


def times(calls, count):
    """In bursts after a rest, and under load."""
    bursts = []
    for _ in range(BURSTS):
        time.sleep(LOAD_SECONDS / 3)
        milliseconds(calls, 2)
        bursts.append(milliseconds(calls, count))
    ms = median(bursts)
    load = 1 + int(1e3 * LOAD_SECONDS / ms)
    milliseconds(calls, load)
    return ms, milliseconds(calls, load)


def measure(name, build, layers):
    workload = layers[0].workload
    calls, way = [], "graph"
    for inputs in layers:
        call = build(inputs, "bf16")
        try:
            call = capture(call)
        except Uncapturable as reason:
            way = f"eager ({first_line(reason)})"
        off = error(inputs, call())
        if not off <= MOST_ERROR:
            raise Unavailable(f"wrong: relative error {off:.1e}")
        calls.append(call)
    ms, loaded = times(calls, 40 if workload.tokens <= 512 else 6)
    print(f"| {workload.experts} | {workload.tokens} | {name} | {ms:.4f} | {loaded:.4f} | {off:.1e} | {way} |", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true", help="small sizes")
    width, top_k, numbers_of_experts, numbers_of_tokens = sizes(parser.parse_args().tiny)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name(0)}\n")
    print("| E | T | peer | ms | under load | error | how |\n|---|---|---|---|---|---|---|")
    for experts in numbers_of_experts:
        weights = [weights_of(width, experts, "cuda") for _ in range(2)]
        for tokens in numbers_of_tokens:
            workload = Workload(tokens, width, width, experts, top_k, "cuda")
            layers = [inputs_of(workload, of_layer) for of_layer in weights]
            for name, build in PEERS:
                try:
                    measure(name, build, layers)
                # Whatever a peer raises, the others are measured.
                except Exception as reason:
                    print(f"| {experts} | {tokens} | {name} | | | | {first_line(reason)} |", flush=True)
        del weights, layers


if __name__ == "__main__":
    main()
