"""The activation and the combination of rows, in plain torch and as Triton kernels.

A peer made of library products needs both around them. The Triton ones read and write everything once, which is what
a user who cares for time would write; the plain ones are what one writes first.
"""

import os

import torch

from check import ALPHA, LIMIT

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None


class Plain:
    """In torch alone."""

    @staticmethod
    def activate(hidden, bias=None, expert=None):
        """[R, 2I] to [R, I]; with a bias [E, 2I], that of each row's expert is added first."""
        if bias is not None:
            hidden = hidden + bias[expert]
        gate = hidden[:, 0::2].clamp(max=LIMIT)
        up = hidden[:, 1::2].clamp(-LIMIT, LIMIT)
        return (up + 1) * (gate * torch.sigmoid(ALPHA * gate))

    @staticmethod
    def combine(rows, inverse, scales, bias=None, experts=None):
        """Sorted rows [R, H] to tokens [T, H]: the sum over a token's slots, each times its scale [T, K]. The row of
        slot k of token t is inverse[t·K + k]; with a bias [E, H], that of its expert experts[t, k] is added first."""
        places = inverse.view(scales.shape)
        output = None
        for slot in range(scales.shape[1]):
            row = rows[places[:, slot]]
            if bias is not None:
                row += bias[experts[:, slot]]
            scale = scales[:, slot, None]
            output = row.mul_(scale) if output is None else output.addcmul_(row, scale)
        return output


def fused_reason(device):
    """Why the Triton kernels cannot run on a device; None where they can."""
    if triton is None:
        return "triton cannot be imported"
    if device != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return "Triton's kernels need a GPU, or TRITON_INTERPRET=1"
    return None


if triton is not None:

    @triton.jit
    def _activate(hidden, bias, expert, output, I, ALPHA: tl.constexpr, LIMIT: tl.constexpr, BIAS: tl.constexpr,
                  BLOCK: tl.constexpr):
        row = tl.program_id(0).to(tl.int64)
        pairs = tl.program_id(1) * 2 * BLOCK + tl.arange(0, 2 * BLOCK)
        values = tl.load(hidden + row * 2 * I + pairs, mask=pairs < 2 * I, other=0.0).to(tl.float32)
        if BIAS:
            values += tl.load(bias + tl.load(expert + row) * 2 * I + pairs, mask=pairs < 2 * I, other=0.0)
        gate, up = tl.split(tl.reshape(values, (BLOCK, 2)))
        gate = tl.where(gate > LIMIT, LIMIT, gate)
        up = tl.where(up > LIMIT, LIMIT, tl.where(up < -LIMIT, -LIMIT, up))
        columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        result = (up + 1) * gate / (1 + tl.exp(-ALPHA * gate))
        tl.store(output + row * I + columns, result, mask=columns < I)

    @triton.jit
    def _combine(rows, inverse, scales, bias, experts, output, H, K: tl.constexpr, BIAS: tl.constexpr,
                 BLOCK: tl.constexpr):
        token = tl.program_id(0).to(tl.int64)
        columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        inside = columns < H
        total = tl.zeros((BLOCK,), dtype=tl.float32)
        for slot in tl.static_range(K):
            flat = token * K + slot
            value = tl.load(rows + tl.load(inverse + flat) * H + columns, mask=inside, other=0.0).to(tl.float32)
            if BIAS:
                value += tl.load(bias + tl.load(experts + flat) * H + columns, mask=inside, other=0.0)
            total += value * tl.load(scales + flat)
        tl.store(output + token * H + columns, total, mask=inside)


class Fused:
    """One Triton kernel each. The arguments are those of Plain; all tensors are contiguous, indices int64."""

    @staticmethod
    def activate(hidden, bias=None, expert=None, output=None):
        R, I = hidden.shape[0], hidden.shape[1] // 2
        if output is None:
            output = torch.empty(R, I, dtype=hidden.dtype, device=hidden.device)
        if R > 0:
            has_bias = bias is not None
            grid = (R, triton.cdiv(I, 1024))
            _activate[grid](hidden, bias if has_bias else hidden, expert if has_bias else hidden, output, I,
                            ALPHA, LIMIT, has_bias, 1024, num_warps=8)
        return output

    @staticmethod
    def combine(rows, inverse, scales, bias=None, experts=None):
        (T, K), H = scales.shape, rows.shape[1]
        output = torch.empty(T, H, dtype=rows.dtype, device=rows.device)
        has_bias = bias is not None
        grid = (T, triton.cdiv(H, 1024))
        _combine[grid](rows, inverse, scales, bias if has_bias else rows, experts if has_bias else inverse, output, H,
                       K, has_bias, 1024)
        return output
