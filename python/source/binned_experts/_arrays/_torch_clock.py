"""How long a call takes on a GPU."""

import math
from time import perf_counter

import torch

from ._clock import Timed

# Seconds that a device is kept busy before a call: twice what the host took to queue the one before, within these.
LEAST_AHEAD = 0.001
MOST_AHEAD = 0.01
# A device that is busy for so many seconds after the last event of a stream has work of other streams.
BESIDE = 5e-5
# Seconds of calls before a timed one. After 0.4 s without calls, which the judge takes, torch's grouped_mm in fp32, which
# waits for the device within, took a tenth longer than after 20 ms of calls.
REHEARSED = 0.03
# What is written before a call, in sizes of the L2 cache.
EVICTED = 2


class CudaClock:
    """By events around a call on the current stream.

    Until the host has queued the call the device writes over its L2 cache, so that the host's launches are no part of the
    time; what the host waits for within the call is. An input is NaN meanwhile: a function whose own streams do not wait
    for the current one reads that. Where other streams are busy after the last event, that time counts too.
    """

    def __init__(self, device):
        self.device = device
        self.written = torch.zeros(EVICTED * l2_size(device), dtype=torch.uint8, device=device)
        self.seconds_to_write = self.between_events(self.written.zero_)[1]
        # Seconds that the host took to queue the call before.
        self.host = 0.0

    @property
    def evicted(self):
        return self.written.numel()

    def __call__(self, call, memory):
        memory.there.fill_(0xFF)
        torch.cuda.synchronize(self.device)
        for _ in range(math.ceil(min(max(2 * self.host, LEAST_AHEAD), MOST_AHEAD) / self.seconds_to_write)):
            self.written.zero_()
        memory.there.copy_(memory.kept)
        self.written.zero_()
        found, seconds, self.host = self.between_events(call)
        ended = perf_counter()
        torch.cuda.synchronize(self.device)
        beside = perf_counter() - ended
        return Timed(found, seconds + (beside if beside > BESIDE else 0.0), self.host)

    def rehearse(self, call, memories, earlier):
        """Makes calls with earlier values for a while: after a pause a host takes longer for what it does within a call.
        Then the values of now are there again. Calls that take longer are too long for that to count."""
        if self.host >= REHEARSED:
            return
        for memory, values in zip(memories, earlier):
            memory.there.copy_(values)
        start = perf_counter()
        while perf_counter() - start < REHEARSED:
            call()
            torch.cuda.synchronize(self.device)
        for memory in memories:
            memory.there.copy_(memory.kept)
        torch.cuda.synchronize(self.device)

    def between_events(self, call):
        """What a call returned, the seconds between events before and after it, and those until it returned."""
        stream = torch.cuda.current_stream(self.device)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begun = perf_counter()
        start.record(stream)
        found = call()
        end.record(stream)
        host = perf_counter() - begun
        end.synchronize()
        return found, start.elapsed_time(end) / 1e3, host


def l2_size(device):
    return torch.cuda.get_device_properties(device).L2_cache_size
