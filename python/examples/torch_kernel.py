"""A kernel in torch, on the CPU or on a GPU. Exit status 0 if it is right.

    torch_kernel.py [DEVICE]
"""

import sys

import torch

import binned_experts


def moe(
    hidden_states,
    router_indices,
    routing_weights,
    gate_up_proj,
    gate_up_proj_bias,
    down_proj,
    down_proj_bias,
    expert_capacity,
    alpha,
    limit,
):
    (tokens, top_k), experts = router_indices.shape, routing_weights.shape[2]
    x = hidden_states.flatten(0, 1)
    order = torch.sort(router_indices.flatten(), stable=True).indices
    counts = torch.bincount(router_indices.flatten(), minlength=experts).tolist()
    slots = x.new_zeros(tokens * top_k, x.shape[1])
    start = 0
    for e, count in enumerate(counts):
        kept = order[start : start + min(count, expert_capacity)]
        start += count
        gate_up = x[kept // top_k] @ gate_up_proj[e] + gate_up_proj_bias[e]
        gate, up = gate_up[:, 0::2].clamp(max=limit), gate_up[:, 1::2].clamp(min=-limit, max=limit)
        slots[kept] = ((up + 1) * (gate * torch.sigmoid(alpha * gate))) @ down_proj[e] + down_proj_bias[e]
        slots[kept] *= routing_weights.flatten(0, 1)[kept // top_k, e, None]
    return slots.unflatten(0, (tokens, top_k)).sum(dim=1).view_as(hidden_states)


if __name__ == "__main__":
    device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    # The bf16 products of some CPUs take subnormal numbers as 0.
    for precision in ("fp32", "bf16+flush" if device == "cpu" else "bf16"):
        report = binned_experts.check(moe, precision=precision, device=device, cases=200)
        print(report)
        report.assert_agrees()
