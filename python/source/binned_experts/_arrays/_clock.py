"""How long a call takes."""

from dataclasses import dataclass
from time import perf_counter
from typing import Any


@dataclass(frozen=True)
class Timed:
    """What a call returned, its seconds, and those of them that the host took to return."""

    found: Any
    seconds: float
    host: float


class WallClock:
    """Of calls that have ended when they return."""

    evicted = 0

    def rehearse(self, call, memories, earlier):
        """No call: what the caches hold stays as it is."""

    def __call__(self, call, memory):
        start = perf_counter()
        found = call()
        seconds = perf_counter() - start
        return Timed(found, seconds, seconds)
