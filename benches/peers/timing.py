"""Milliseconds of a call: in bursts after idle, and under its own load; eagerly, and replayed from a CUDA graph."""

import contextlib
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

IDLE_SECONDS = 0.2
BURSTS = 3
CALLS_IN_BURST = 5
SUSTAINED_CALLS = 10


class Uncapturable(Exception):
    """A call cannot be captured in a CUDA graph."""


class CudaClock:
    """By events on the stream around each call."""

    name = "events"

    def burst(self, call, between=lambda: None):
        """Median over a few short bursts, each after idle. The first call of a burst is not counted: it hides the
        host's launches from those behind it. What is `between` two calls is no part of their times."""
        times = []
        for _ in range(BURSTS):
            torch.cuda.synchronize()
            time.sleep(IDLE_SECONDS)
            call()
            times += self.queue(call, CALLS_IN_BURST, between)
        return median(times)

    def cold_burst(self, call):
        """As `burst`, with other bytes in the L2 cache before each call. They are written until the host has queued the
        call, so that its launches are no part of the time; what it waits for within the call is."""
        other = torch.empty(2 * torch.cuda.get_device_properties(0).L2_cache_size, dtype=torch.uint8, device="cuda")
        call()
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        ahead = 2 * (time.perf_counter() - start)
        torch.cuda.synchronize()
        (one,) = self.queue(other.zero_, 1)
        writes = math.ceil(ahead / (one / 1e3))
        return self.burst(call, lambda: [other.zero_() for _ in range(writes)])

    def sustained(self, call, seconds):
        """Median of further calls once the device has done nothing else for some seconds."""
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            self.queue(call, SUSTAINED_CALLS)
        times = []
        start = time.perf_counter()
        while not times or time.perf_counter() - start < seconds / 2:
            times += self.queue(call, SUSTAINED_CALLS)
        return median(times)

    @staticmethod
    def queue(call, count, between=lambda: None):
        """Times of a number of calls, queued without waiting between them."""
        events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(count)]
        for before, after in events:
            between()
            before.record()
            call()
            after.record()
        events[-1][1].synchronize()
        return [before.elapsed_time(after) for before, after in events]


class CpuClock:
    """By wall time, for a smoke test."""

    name = "wall"

    def burst(self, call):
        call()
        return median(self._wall(call) for _ in range(CALLS_IN_BURST))

    cold_burst = burst

    def sustained(self, call, seconds):
        times = []
        start = time.perf_counter()
        while len(times) < 2 or time.perf_counter() - start < seconds:
            times.append(self._wall(call))
        return median(times)

    @staticmethod
    def _wall(call):
        start = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - start)


def clock_of(device):
    return CudaClock() if device == "cuda" else CpuClock()


@contextlib.contextmanager
def precision(name):
    """Sets whether torch's fp32 products on a GPU are rounded to TF32."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@dataclass(frozen=True)
class Replay:
    """Replays a call from a graph. It keeps the call, whose memory the graph may use."""

    graph: torch.cuda.CUDAGraph
    output: torch.Tensor
    call: Callable

    def __call__(self):
        self.graph.replay()
        return self.output


def capture(call):
    """A function that replays the call from a CUDA graph and returns its output, the same tensor every time."""
    if not torch.cuda.is_available():
        raise Uncapturable("no GPU")
    _require_no_wait(call)
    try:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = call()
        torch.cuda.synchronize()
    except Exception as error:
        # A capture that broke off may report once more here; whether the GPU still works shows in the next call.
        with contextlib.suppress(RuntimeError):
            torch.cuda.synchronize()
        raise Uncapturable(first_line(error)) from error

    return Replay(graph, output, call)


def _require_no_wait(call):
    """Runs the call where torch refuses to wait for the GPU: a failed capture would be harder to recover from."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            call()
        except Exception as error:
            raise Uncapturable("it waits for the GPU: " + first_line(error)) from error
        finally:
            torch.cuda.set_sync_debug_mode(before)


def first_line(error):
    """An exception as one line of bounded length."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"[:200].rstrip(": ")
