"""A kernel in Triton, in its interpreter on the CPU: right, and with three bugs that are found. Exit status 0 if so.

    TRITON_INTERPRET=1 triton_kernel.py
"""

import os
import sys

os.environ.setdefault("TRITON_INTERPRET", "1")

import torch
import triton
import triton.language as tl

import binned_experts

# Rows, columns and depth of a tile.
TILE = 16
BUGS = ("depth-tail-not-masked", "rows-beyond-the-count-stored", "weight-of-the-first-slot")


@triton.jit
def first_product(
    x, order, tile_expert, tile_row, tile_end, matrix, bias, activated, alpha, limit,
    H: tl.constexpr, I: tl.constexpr, K: tl.constexpr, TILE: tl.constexpr, BUG: tl.constexpr,
):  # fmt: skip
    """Gathers the rows of a tile, and computes the activation of some columns."""
    tile = tl.program_id(0)
    expert, end = tl.load(tile_expert + tile), tl.load(tile_end + tile)
    rows = tl.load(tile_row + tile) + tl.arange(0, TILE)
    columns = tl.program_id(1) * TILE + tl.arange(0, TILE)
    live, wide = rows < end, columns < I
    tokens = tl.load(order + rows, mask=live, other=0) // K
    gate = tl.zeros((TILE, TILE), tl.float32)
    up = tl.zeros((TILE, TILE), tl.float32)
    for start in range(0, H, TILE):
        depth = start + tl.arange(0, TILE)
        deep = depth < H + (TILE if BUG == "depth-tail-not-masked" else 0)
        part = tl.load(x + tokens[:, None] * H + depth[None, :], mask=live[:, None] & deep[None, :], other=0.0)
        at = matrix + expert * H * 2 * I + depth[:, None] * 2 * I + 2 * columns[None, :]
        inside = (depth < H)[:, None] & wide[None, :]
        gate = tl.dot(part, tl.load(at, mask=inside, other=0.0), gate, input_precision="ieee")
        up = tl.dot(part, tl.load(at + 1, mask=inside, other=0.0), up, input_precision="ieee")
    at = bias + expert * 2 * I + 2 * columns
    gate += tl.load(at, mask=wide, other=0.0)[None, :]
    up += tl.load(at + 1, mask=wide, other=0.0)[None, :]
    gate = tl.minimum(gate, limit, propagate_nan=tl.PropagateNan.ALL)
    up = tl.minimum(up, limit, propagate_nan=tl.PropagateNan.ALL)
    up = tl.maximum(up, -limit, propagate_nan=tl.PropagateNan.ALL)
    value = (up + 1) * (gate / (1 + tl.exp(-alpha * gate)))
    tl.store(activated + rows[:, None] * I + columns[None, :], value, mask=live[:, None] & wide[None, :])


@triton.jit
def second_product(
    activated, order, tile_expert, tile_row, tile_end, matrix, bias, ids, weights, slots,
    H: tl.constexpr, I: tl.constexpr, E: tl.constexpr, K: tl.constexpr, TILE: tl.constexpr, BUG: tl.constexpr,
):  # fmt: skip
    """Some columns of the rows of a tile, weighted, each at its slot."""
    tile = tl.program_id(0)
    expert, end = tl.load(tile_expert + tile), tl.load(tile_end + tile)
    rows = tl.load(tile_row + tile) + tl.arange(0, TILE)
    columns = tl.program_id(1) * TILE + tl.arange(0, TILE)
    live, wide = rows < end, columns < H
    total = tl.zeros((TILE, TILE), tl.float32)
    for start in range(0, I, TILE):
        depth = start + tl.arange(0, TILE)
        deep = depth < I
        part = tl.load(activated + rows[:, None] * I + depth[None, :], mask=live[:, None] & deep[None, :], other=0.0)
        at = matrix + expert * I * H + depth[:, None] * H + columns[None, :]
        total = tl.dot(part, tl.load(at, mask=deep[:, None] & wide[None, :], other=0.0), total, input_precision="ieee")
    total += tl.load(bias + expert * H + columns, mask=wide, other=0.0)[None, :]
    slot = tl.load(order + rows, mask=live, other=0)
    chosen = expert
    if BUG == "weight-of-the-first-slot":
        chosen = tl.load(ids + slot // K * K)
    total *= tl.load(weights + slot // K * E + chosen, mask=live, other=0.0)[:, None]
    stored = live
    if BUG == "rows-beyond-the-count-stored":
        stored = rows >= 0
    tl.store(slots + slot[:, None] * H + columns[None, :], total, mask=stored[:, None] & wide[None, :])


@triton.jit
def combine(slots, output, H: tl.constexpr, K: tl.constexpr, TILE: tl.constexpr):
    """The sum over the slots of a token, of some columns."""
    token = tl.program_id(0)
    columns = tl.program_id(1) * TILE + tl.arange(0, TILE)
    total = tl.zeros((TILE,), tl.float32)
    for slot in range(K):
        total += tl.load(slots + (token * K + slot) * H + columns, mask=columns < H, other=0.0)
    tl.store(output + token * H + columns, total, mask=columns < H)


def kernel(bug=""):
    """The layer, with a bug or without."""

    def moe(
        hidden_states, router_indices, routing_weights, gate_up_proj, gate_up_proj_bias, down_proj, down_proj_bias,
        alpha, limit,
    ):  # fmt: skip
        (tokens, k), (experts, h, wide) = router_indices.shape, gate_up_proj.shape
        i = wide // 2
        output = torch.empty_like(hidden_states)
        if tokens == 0:
            return output
        ids = router_indices.flatten()
        order = torch.sort(ids, stable=True).indices
        ends = torch.bincount(ids, minlength=experts).cumsum(0).tolist()
        tiles = [
            (expert, row, end)
            for expert, (start, end) in enumerate(zip([0, *ends], ends))
            for row in range(start, end, TILE)
        ]
        tables = torch.tensor(tiles).T.contiguous()
        activated, slots = hidden_states.new_empty(tokens * k, i), hidden_states.new_empty(tokens * k, h)
        first_product[len(tiles), triton.cdiv(i, TILE)](
            hidden_states, order, *tables, gate_up_proj, gate_up_proj_bias, activated, alpha, limit,
            H=h, I=i, K=k, TILE=TILE, BUG=bug,
        )  # fmt: skip
        second_product[len(tiles), triton.cdiv(h, TILE)](
            activated, order, *tables, down_proj, down_proj_bias, ids, routing_weights, slots,
            H=h, I=i, E=experts, K=k, TILE=TILE, BUG=bug,
        )  # fmt: skip
        combine[tokens, triton.cdiv(h, TILE)](slots, output, H=h, K=k, TILE=TILE)
        return output

    return moe


def main():
    # The interpreter takes its time for each tile.
    domain = {
        "tokens": {"max": 12},
        "hidden": {"max": 24},
        "intermediate": {"max": 24},
        "experts": {"max": 6},
        "top_k": {"max": 4},
    }

    def report_of(bug, cases):
        return binned_experts.check(kernel(bug), precision="fp32", domain=domain, cases=cases, shrink_budget=40)

    right = report_of("", 60)
    print(right)
    right.assert_agrees()
    for bug in BUGS:
        found = report_of(bug, 20)
        print(f"{bug}:", *found.failures)
        if found.agrees:
            sys.exit(f"{bug} is not found")


if __name__ == "__main__":
    main()
