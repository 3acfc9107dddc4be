"""The function in f64, and how far an output is from it."""

import math
from dataclasses import dataclass

import torch

ALPHA = 1.702
LIMIT = 7.0

# The largest relative Frobenius error that a class of precision may have. cuBLAS's fp32 has 1.5e-6 on these inputs,
# rounding to TF32 4e-4, truncation to TF32 2e-3.
TOLERANCE = {"fp32": 1e-5, "tf32": 5e-3, "fp16": 5e-3}
# One token may be this many times worse: a lost row is far beyond it, though the whole output hides it.
TOKEN_FACTOR = 10

CHUNK = 1024


def exact(inputs):
    """The output [T, H] in f64 of the inputs as they are in fp32: expert by expert, slot by slot, a few rows at once."""
    weights, workload = inputs.weights, inputs.workload
    output = torch.zeros(workload.tokens, workload.hidden, device=inputs.tokens.device, dtype=torch.float64)
    for expert in range(workload.experts):
        gate_up, down = weights.gate_up[expert].double(), weights.down[expert].double()
        gate_up_bias, down_bias = weights.gate_up_bias[expert].double(), weights.down_bias[expert].double()
        for slot in range(workload.top_k):
            chosen = (inputs.experts[:, slot] == expert).nonzero().squeeze(1)
            for tokens in chosen.split(CHUNK):
                hidden = inputs.tokens[tokens].double() @ gate_up + gate_up_bias
                gate = hidden[:, 0::2].clamp(max=LIMIT)
                up = hidden[:, 1::2].clamp(-LIMIT, LIMIT)
                row = ((up + 1) * gate * torch.sigmoid(ALPHA * gate)) @ down + down_bias
                output[tokens] += inputs.scales[tokens, slot, None].double() * row
    return output


@dataclass(frozen=True)
class Error:
    """Distances of an output from the exact one; NaN where the output is not finite or has another shape."""

    relative: float  # Frobenius norm of the difference over that of the exact output
    maximum: float  # of one value
    token: float  # the largest relative error of one row

    @staticmethod
    def of(output, expected):
        if output.shape != expected.shape:
            return Error(math.nan, math.nan, math.nan)
        difference = output.double() - expected
        rows = difference.norm(dim=1) / expected.norm(dim=1)
        relative = (difference.norm() / expected.norm()).item()
        maximum = difference.abs().max().item()
        token = rows.max().item()
        if not all(math.isfinite(value) for value in (relative, maximum, token)):
            return Error(math.nan, math.nan, math.nan)
        return Error(relative, maximum, token)

    def is_within(self, precision):
        """Whether a claim of this precision holds. Written so that NaN fails."""
        tolerance = TOLERANCE[precision]
        return self.relative <= tolerance and self.token <= TOKEN_FACTOR * tolerance

    def worse(self, other):
        """The larger of each; NaN stays."""
        pairs = zip((self.relative, self.maximum, self.token), (other.relative, other.maximum, other.token))
        return Error(*(a if math.isnan(a) or a >= b else b for a, b in pairs))


def poison(workload):
    """Leaves NaN in free memory of the sizes that a peer is likely to allocate next, so that what it does not write
    shows in its output."""
    T, H, I, R = workload.tokens, workload.hidden, workload.intermediate, workload.rows
    shapes = [(T, H), (R, H), (R, I), (R, I), (R, 2 * I)]
    held = [torch.full(shape, math.nan, device=workload.device) for shape in shapes]
    del held
