"""What several kernels leave to their callers, in PyTorch."""

import inspect

import torch


class InRowsBut:
    """A function that gets all tensors but those of some names in rows without gaps, however they are handed over."""

    def __init__(self, function, names):
        self.function = function
        self.names = names
        self.__signature__ = inspect.signature(function)

    def __call__(self, **arguments):
        tensors = [name for name, value in arguments.items() if torch.is_tensor(value) and name not in self.names]
        return self.function(**arguments | {name: arguments[name].contiguous() for name in tensors})


def by_expert(router_indices, experts):
    """The flat indices by expert ``[T·K]``, the expert of each, and how many each expert has ``[E]``."""
    expert, order = torch.sort(router_indices.flatten(), stable=True)
    return order, expert, torch.bincount(expert, minlength=experts)


def gated(gate_up):
    """silu(gate) · up of ``[…,2I]`` with all gates first."""
    gate, up = gate_up.chunk(2, dim=-1)
    return torch.nn.functional.silu(gate) * up


def swiglu(gate_up, alpha, limit):
    """The activation of gpt-oss, of ``[…,2I]`` with gates in even columns."""
    gate, up = gate_up[..., 0::2].clamp(max=limit), gate_up[..., 1::2].clamp(min=-limit, max=limit)
    return (up + 1) * (gate * torch.sigmoid(alpha * gate))


def weighted_sum(rows, weights, order=slice(None)):
    """``[T,H]``, the sum over the slots of rows ``[T·K,H]`` in an order, with weights ``[T,K]``."""
    slots = torch.empty_like(rows)
    slots[order] = rows
    return (slots.unflatten(0, weights.shape) * weights[:, :, None]).sum(dim=1)


def align_tiles(topk_ids, experts, block, sorted_ids, expert_ids, rows_padded, *others):
    """Writes the flat indices by expert, those of each filled up to whole tiles with an index that is none, the expert
    of each tile, and the number of rows: what serving engines have a compiled ``moe_align_block_size`` for."""
    order, expert, counts = by_expert(topk_ids, experts)
    tiles = (counts + block - 1) // block
    ends = tiles.cumsum(0) * block
    rank = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[expert]
    sorted_ids.fill_(len(order))
    sorted_ids[(ends - tiles * block)[expert] + rank] = order.int()
    starts = torch.arange(0, len(expert_ids) * block, block, device=order.device)
    expert_ids.copy_(torch.searchsorted(ends, starts, right=True))
    rows_padded.copy_(ends[-1:])
