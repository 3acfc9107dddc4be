"""Checks a function over many cases."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from . import _native
from ._arrays import arrays_of
from ._call import Caller, parameters_of
from ._cases import Case, named_arrays
from ._domain import domain_of
from ._isolate import command_for
from ._native import Domain, Report


def check(
    function: Callable[..., Any],
    *,
    precision: str,
    domain: Domain | dict[str, Any] | str | os.PathLike[str] | None = None,
    cases: int = 1000,
    seed: int = 0,
    shapes: int = 0,
    device: str = "cpu",
    arrays: str = "torch",
    poison: bool = True,
    isolate: bool = False,
    time_limit: float = 30.0,
    shrink_budget: int = 500,
) -> Report:
    """Calls a function with generated cases and compares what it returns with the right result.

    Parameters
    ----------
    function
        Gets the arguments that it has parameters for, by name: ``hidden_states`` ``[B,S,H]``, ``router_indices``
        ``[B·S,K]`` (int64), ``routing_weights`` ``[B,S,E]``, ``gate_up_proj`` ``[E,H,2I]``, ``gate_up_proj_bias``
        ``[E,2I]``, ``down_proj`` ``[E,I,H]``, ``down_proj_bias`` ``[E,H]``, ``expert_capacity``, ``alpha``, ``limit``,
        ``sorted_indices`` ``[B·S·K]`` (int64) or ``None``, ``layer`` (a dict of what is not as in gpt-oss) and
        ``first_expert`` (of the local experts, or ``None``). Tensors have the layout of the layer, and biases are ``None``
        where it has none. A layer of MXFP4 has ``gate_up_proj_blocks`` ``[E,2I,H/32,16]``, ``gate_up_proj_scales``
        ``[E,2I,H/32]``, ``down_proj_blocks`` ``[E,H,I/32,16]`` and ``down_proj_scales`` ``[E,H,I/32]`` (uint8), and
        ``None`` for the projections. A layer of n shared experts has ``shared_gate_up_proj`` ``[H,2nI]``,
        ``shared_gate_up_proj_bias`` ``[2nI]``, ``shared_down_proj`` ``[nI,H]`` and ``shared_down_proj_bias`` ``[H]``;
        the function names them. With ``views`` in the domain some tensors are views of larger ones.

        It returns the output ``[B,S,H]``, or a dict with ``output`` and stages by name. What it has no parameter for is
        not asked of it unless the domain says what it does: alpha is then 1.702, limit 7, nothing is dropped, and the
        order is the stable one. It raises ``Skip`` for a case that it does not take.
    precision
        The arithmetic that it claims, such as ``"bf16"`` or ``"bf16+flush"``; it decides the element type.
    domain
        The cases that it takes: a dict, TOML text or a path, with the fields of docs/protocol.md.
    cases, seed
        Number of cases; case i is that of seed number ``seed + i``.
    shapes
        How many H, I, E and K the cases have between them, for a function that is compiled for each; 0 for any.
    device, arrays
        What the function gets: ``arrays`` is ``"torch"``, ``"numpy"``, ``"jax"`` or ``"cupy"``. numpy and cupy have no
        bf16: such arrays are uint16 with the bits, and so is the output.
    poison
        Whether memory that the framework hands out next holds NaN before each call.
    isolate
        Whether the function runs in a process of its own, which is started again where it dies, and has a time limit.
        The function must then be one that ``pickle`` can name.
    time_limit
        Seconds for a call. Without ``isolate`` a longer one is only told of.
    shrink_budget
        The most cases tried to make the first failing case of each kind smaller.

    Returns
    -------
    Report
        Also where Ctrl-C ends the run: it is then that of the cases so far.
    """
    parameters = parameters_of(function)
    claims = domain_of(domain).of_function(precision, parameters)
    name = getattr(function, "__name__", type(function).__name__)
    size = cases, seed, shapes, shrink_budget
    named = named_arrays(arrays, device)
    if isolate:
        with command_for(function, name, parameters, claims, device, arrays, poison) as command:
            # Only a case that is looked at needs arrays in this process.
            return _native.check_program(
                command, size, time_limit, named, lambda native: Case(native, arrays_of(arrays, device))
            )
    made = arrays_of(arrays, device)
    caller = Caller(function, parameters, made, poison)
    return _native.check(caller, name, claims, size, time_limit, named, lambda native: Case(native, made))
