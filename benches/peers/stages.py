"""Where the time of our layer in bf16 goes, at the sizes of gpt-oss:

    python3 benches/peers/stages.py [--tiny]

Needs the package `binned-experts` and a GPU. Prints Markdown: for each kernel the microseconds from the start of the layer
until it starts and ends, by torch's profiler, median of some calls. A kernel starts before the one ahead of it has ended.
The floor is what must be read and written, or multiplied, at the rates of `rates.py`, whichever is more.
"""

import argparse
from statistics import median

import torch
from bf16 import Workload, inputs_of, sizes, weights_of
from peers import binned_experts
from rates import BYTES_A_SECOND, OPERATIONS_A_SECOND
from torch.profiler import ProfilerActivity, profile

CALLS = 9
BYTES_A_MICROSECOND = BYTES_A_SECOND / 1e6
OPERATIONS_A_MICROSECOND = OPERATIONS_A_SECOND / 1e6
WIDTH = 2  # bytes of an element


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true", help="small sizes")
    width, top_k, numbers_of_experts, numbers_of_tokens = sizes(parser.parse_args().tiny)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name(0)}\n")
    print("| E | T | kernel | starts | ends | floor |\n|---|---|---|--:|--:|--:|")
    for experts in numbers_of_experts:
        weights = weights_of(width, experts, "cuda")
        for tokens in numbers_of_tokens:
            inputs = inputs_of(Workload(tokens, width, width, experts, top_k, "cuda"), weights)
            floors = floors_of(inputs)
            for name, start, end in stages(binned_experts(inputs, "bf16")):
                floor = f"{floors[name]:.1f}" if name in floors else ""
                print(f"| {experts} | {tokens} | `{name}` | {start:.1f} | {end:.1f} | {floor} |", flush=True)


def stages(call):
    """Name, start and end of each kernel of a call."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as profiled:
        for _ in range(CALLS):
            call()
        torch.cuda.synchronize()
    kernels = [event for event in profiled.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    kernels.sort(key=lambda event: event.time_range.start)
    each = len(kernels) // CALLS
    calls = [kernels[first : first + each] for first in range(0, each * CALLS, each)]
    for place in range(each):
        times = [(one[place].time_range, one[0].time_range.start) for one in calls]
        yield (
            calls[0][place].name,
            median(time.start - start for time, start in times),
            median(time.end - start for time, start in times),
        )


def floors_of(inputs):
    """Microseconds that a kernel needs at least."""
    workload = inputs.workload
    T, H, I, R = workload.tokens, workload.hidden, workload.intermediate, workload.rows
    weights = inputs.experts.unique().numel() * 3 * H * I * WIDTH
    moved = {"gather_bf16": (T + R) * H * WIDTH, "combine_bf16": (R + T) * H * WIDTH}
    moved["route_gather_bf16"] = moved["gather_bf16"]
    floors = {name: count / BYTES_A_MICROSECOND for name, count in moved.items()}
    products = 2 * R * 3 * H * I / OPERATIONS_A_MICROSECOND
    return floors | {"experts_bf16": max(weights / BYTES_A_MICROSECOND, products)}


if __name__ == "__main__":
    main()
