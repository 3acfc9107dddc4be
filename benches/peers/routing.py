"""Assignments sorted by expert, as most peers want them. Nothing here waits for the GPU."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Routing:
    """R = T·K assignments; the flat index of slot k of token t is t·K + k."""

    order: torch.Tensor  # [R] flat index of each sorted row; equal experts keep their order
    inverse: torch.Tensor  # [R] sorted row of each flat index
    token: torch.Tensor  # [R] token of each sorted row
    expert: torch.Tensor  # [R] expert of each sorted row
    ends: torch.Tensor  # [E] int32 end of each expert's rows, inclusive cumulative counts


def sort_by_expert(inputs):
    """The routing of a call; part of what is timed."""
    flat = inputs.experts.reshape(-1)
    expert, order = torch.sort(flat, stable=True)
    places = torch.arange(flat.numel(), device=flat.device)
    inverse = torch.empty_like(order).scatter_(0, order, places)
    every = torch.arange(inputs.workload.experts, device=flat.device)
    ends = torch.searchsorted(expert, every, right=True, out_int32=True)
    return Routing(order, inverse, order // inputs.workload.top_k, expert, ends)
