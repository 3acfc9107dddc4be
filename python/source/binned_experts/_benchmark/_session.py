"""The calls of one workload: those that are timed, and between them those that show what a function keeps.

1. A first call, which may compile and tune.
2. A call with another number of tokens, so that what is planned for one size meets another.
3. The warm-up calls, and half of the timed ones, rounded up.
4. A call that differs from the one before in the hidden states of two tokens, and one that differs in the routing of two,
   both judged there; then one with other weights at the places of those before.
5. The other half of the timed calls.

Each call but the second has its arrays at the same places as the one before. After each warm-up call and each timed one
the same values come once more: of a function that computes anew the second call takes as long as the first. The values of
the next call are drawn before that, so that host and device come from a call to the next one with little between.
"""

import random
import statistics
import time
from dataclasses import dataclass

from .. import _native
from .._rules import Broken

# The rows of an output that are judged, drawn by the system after the call; all where that takes no more products than
# MOST_PRODUCTS.
ROWS = 16
MOST_PRODUCTS = 1 << 26
# Repeated calls look faster where the median of so many pairs or more is below this share, of calls of a millisecond. They
# are where so many of further pairs are too, with other calls between them by chance: a function of which every other call
# is slow passes for one that keeps results in 0.01 % of runs.
PAIRS = 6
FASTER = 0.5
SHORTEST = 1e-3
FURTHER = 24
MOST_OF_THEM = 21
# Seconds.
MOMENT = 0.05
NUMBERS = {"alpha": 1.702, "limit": 7.0, "state": None}
# Findings on values; all others but "repeat-faster" are on rules.
WRONG = ("disagree", "wrong-shape", "wrong-type", "kept-result", "stale-weights")


class Finding(Exception):
    """What ends the calls of a workload: its kind, and what was seen."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


@dataclass
class Observed:
    """A call: which of the list above it is, the seed of its values, what it cannot leave out, and what the judge made of
    it."""

    kind: str
    seed: int
    seconds: float
    host_seconds: float
    necessary: tuple
    rows: int = 0
    used: float = 0.0
    errors: tuple | None = None


class Drawn:
    """The seed of the values of a call, and they."""

    def __init__(self, seed, call):
        self.seed = seed
        self.call = call
        self.tensors = call.tensors()


class Session:
    """The calls of a workload. ``seeds`` gives the seed of each draw."""

    def __init__(self, caller, workload, precision, seeds):
        self.caller = caller
        self.workload = workload
        self.precision = precision
        self.seeds = seeds
        self.calls = []
        # Seconds of calls and of the same calls again.
        self.pairs = []
        # Whether the same call gave the same bits each time.
        self.is_deterministic = True
        # Why a call with another number of tokens was declined.
        self.declined = None
        # The weights, as arrays too, and those before the last change.
        self.weights = self.tensors = self.earlier = None
        # The values in use, and those of the next call.
        self.drawn = self.ahead = None
        # The outputs that were judged, by their hashes, and the hash of the last.
        self.outputs = {}
        self.last = None

    def run(self, warmup, reps):
        """Makes all calls. Raises ``Finding`` where one shows something."""
        self.change_weights()
        self.fresh("first")
        self.another_size()
        for _ in range(warmup):
            self.pairs.append(self.pair("warm-up"))
        for number in range(reps):
            self.pairs.append(self.pair("timed"))
            if number == (reps - 1) // 2:
                self.nearly("exchanged tokens", self.drawn.call.with_exchanged_tokens)
                self.nearly("other routing", self.drawn.call.with_other_routing)
                self.change_weights()
                self.fresh("other weights")
        if self.looks_faster() and self.is_faster():
            ratio = self.repeat_ratio()
            message = f"calls with the values of the call before take {ratio:.2f} of its time: the result was kept"
            raise Finding("repeat-faster", message)

    def change_weights(self):
        """Other weights, at the places of those before."""
        work, self.earlier = self.workload, self.weights
        sizes = work.hidden_dim, work.intermediate, work.num_experts, work.top_k
        self.weights = _native.draw_weights(sizes, self.precision, next(self.seeds))
        self.tensors = self.weights.tensors()
        self.ahead = None

    def draw(self, seq_len=None):
        """Values of a call."""
        seed = next(self.seeds)
        return Drawn(seed, self.weights.call(self.workload.batch, seq_len or self.workload.seq_len, seed))

    def fresh(self, kind):
        """A call with values of its own."""
        self.drawn, self.ahead = self.ahead or self.draw(), None
        return self.made(kind)

    def another_size(self):
        seq_len = self.workload.seq_len
        self.drawn = self.draw(seq_len // 2 if seq_len > 1 else 2)
        try:
            self.made("other size")
        except Finding as finding:
            if finding.kind != "declined":
                raise
            self.declined = str(finding)

    def nearly(self, kind, changed):
        """A call that differs in a few values from the one before."""
        seed = next(self.seeds)
        call, tokens = changed(seed)
        self.drawn = Drawn(seed, call)
        self.made(kind, tokens)

    def pair(self, kind):
        """Seconds of a call, and of the same once more."""
        one = self.fresh(kind)
        self.ahead = self.draw()
        return one.seconds, self.made("again").seconds

    def made(self, kind, tokens=()):
        """A call with the values in use, judged at some tokens and those drawn now."""
        drawn, tensors = self.drawn, self.drawn.tensors
        self.caller.rehearses = kind == "timed"
        assignments = len(tensors["router_indices"][2]) // 8
        answered, content = self.caller({**tensors, **self.tensors}, {**NUMBERS, "expert_capacity": assignments})
        if answered == "broken":
            raise Finding(*content)
        if answered != "ok":
            raise Finding({"skip": "declined"}.get(answered, answered), content)
        if "output" not in content:
            raise Finding("error", f"output: expected it among what the function returns, found {', '.join(content)}")
        seconds, host_seconds = self.caller.seconds, self.caller.host_seconds
        observed = Observed(kind, drawn.seed, seconds, host_seconds, drawn.call.necessary())
        self.calls.append(observed)
        batch, sequence, _ = tensors["hidden_states"][1]
        sampled = random.SystemRandom().sample(range(batch * sequence), min(batch * sequence, self.rows))
        self.judge(observed, content["output"], sorted({*tokens, *sampled}))
        return observed

    def judge(self, observed, output, tokens):
        """Compares an output at some tokens, and with the other outputs."""
        dtype, shape, data = output
        kind, digest = observed.kind, hash((dtype, tuple(shape), data))
        if kind == "again":
            before, same = self.calls[-2], digest == self.last
            self.is_deterministic &= same
            if same:
                # It is judged already.
                observed.rows, observed.used, observed.errors = before.rows, before.used, before.errors
                return
        verdict, observed.rows, observed.errors = self.drawn.call.judge(output, tokens)
        if not verdict:
            raise self.explained(observed, output, tokens, verdict, digest)
        observed.used = verdict.used
        self.last = digest
        self.outputs.setdefault(digest, f"call {len(self.calls)}, {kind}")

    @property
    def rows(self):
        """How many rows of an output are drawn."""
        work = self.workload
        products = work.top_k * 3 * work.hidden_dim * work.intermediate
        return max(ROWS, MOST_PRODUCTS // products)

    def explained(self, observed, output, tokens, verdict, digest):
        """The finding of a wrong output."""
        said = f"call {len(self.calls)}, {observed.kind}: {str(verdict).strip()}"
        if digest in self.outputs and output[2].strip(b"\0"):
            return Finding("kept-result", f"the output of {self.outputs[digest]}, kept for other values\n{said}")
        is_disagreement = verdict.kind == "disagree"
        if is_disagreement and self.earlier is not None and self.drawn.call.is_of_weights(self.earlier, output, tokens):
            remedy = "weights of an earlier call, kept though they changed in place; setup is the place to pack them"
            return Finding("stale-weights", f"{remedy}\n{said}")
        # Work that goes on shows after a moment.
        time.sleep(MOMENT)
        try:
            self.caller.keep_output("written-after-return", "after its return", output[0])
        except Broken as broken:
            return Finding(broken.rule, f"{broken}\n{said}")
        return Finding(verdict.kind, said)

    def repeat_ratio(self):
        """The median share of its time that the same call takes once more; ``None`` of no pair."""
        return statistics.median(again / first for first, again in self.pairs) if self.pairs else None

    def looks_faster(self):
        """Whether repeated calls look as if their results were kept."""
        if len(self.pairs) < PAIRS or statistics.median(first for first, _ in self.pairs) < SHORTEST:
            return False
        return self.repeat_ratio() < FASTER

    def is_faster(self):
        """Whether repeated calls are faster in further pairs too."""
        faster = 0
        for _ in range(FURTHER):
            if random.SystemRandom().random() < 0.5:
                self.fresh("between")
            first, again = self.pair("further")
            faster += again < FASTER * first
        return faster >= MOST_OF_THEM
