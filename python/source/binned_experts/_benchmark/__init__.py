"""Times a function on the workloads of the seed's benchmark, and judges every output that it times."""

from __future__ import annotations

import itertools
import json
import os
import random
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from .. import _native
from .._arrays import arrays_of
from .._call import ARRAYS, KINDS, NUMBERS, WEIGHTS, parameters_of
from ._caller import TimedCaller
from ._record import environment, finite, record
from ._report import Benchmark, head, line
from ._session import Finding, Session
from ._workload import OF_SEED, KernelTypeEnum, Workload

# What each dtype is judged by, and its name as a tensor.
DTYPES = {"float32": ("fp32", "f32"), "bfloat16": ("bf16", "bf16"), "float16": ("f16", "f16")}
FRAMEWORKS = ("torch", "numpy")
# Seeds of a run, and draws that each has its own numbers for.
MOST_SEEDS = 1 << 32
DRAWS = 1 << 20


def run_benchmark(
    kernel_type: KernelTypeEnum | str,
    impl_name: str | None = None,
    impl_tags: dict[str, Any] | None = None,
    impl_func: Callable[..., Any] | None = None,
    reps: int = 5,
    warmup: int = 2,
    dtype: str | None = None,
    device: str | None = None,
    *,
    precision: str | None = None,
    setup: Callable[..., Any] | None = None,
    reuses_output: bool = False,
    arrays: str = "torch",
    workloads: Iterable[Workload] | None = None,
    seed: int | None = None,
    jsonl: str | os.PathLike[str] | None = None,
) -> Benchmark:
    """Times a function, and writes a record for each workload.

    Parameters
    ----------
    kernel_type
        ``KernelTypeEnum.OPENAI_MOE``.
    impl_name, impl_tags
        What the records call the function.
    impl_func
        Gets the arguments that it has parameters for, by name, as that of ``check`` does; the capacity drops nothing,
        alpha is 1.702 and limit 7. It returns the output ``[B,S,H]``.
    reps, warmup
        Timed calls of a workload, and calls before them.
    dtype, device
        ``"float32"``, ``"bfloat16"`` or ``"float16"``, and where. Without them ``"cuda"`` and ``"bfloat16"`` where torch
        has a GPU, else ``"cpu"`` and ``"float32"``.
    precision
        What results are judged by: ``"fp32"``, ``"bf16"`` or ``"f16"`` by the dtype, unless it is named.
    setup
        Gets the weights that it has parameters for, by name, and returns what the function gets as ``state``. Its time is
        apart from that of calls.
    reuses_output
        Whether a call may overwrite the output of the call before. A copy of the output is then part of the time.
    arrays
        ``"torch"`` or ``"numpy"``.
    workloads
        The sizes to run at; without, the seed's eight.
    seed
        Decides all values. Without, the system draws one, which the records have.
    jsonl
        Where the records are written, a line each; without, ``openai_moe.jsonl``. What was there goes.

    Returns
    -------
    Benchmark
        The records, whether all are right, and the table that was printed.
    """
    kind = one_of("kernel_type", kernel_type, KernelTypeEnum)
    if not callable(impl_func):
        raise TypeError(f"impl_func: expected a function, found {impl_func!r}")
    # Tags that are no JSON are refused before anything runs.
    json.dumps(impl_tags)
    if arrays not in FRAMEWORKS:
        raise ValueError(f"arrays: expected one of {', '.join(FRAMEWORKS)}; found {arrays!r}")
    for name, number, least in (("reps", reps, 1), ("warmup", warmup, 0)):
        if not isinstance(number, int) or number < least:
            raise ValueError(f"{name}: expected a whole number from {least} on, found {number!r}")
    if seed is not None and not (isinstance(seed, int) and 0 <= seed < MOST_SEEDS):
        raise ValueError(f"seed: expected a whole number from 0 to {MOST_SEEDS - 1}, found {seed!r}")
    workloads = OF_SEED if workloads is None else tuple(workloads)
    for workload in workloads:
        if not isinstance(workload, Workload):
            raise TypeError(f"workloads: expected a Workload, found {workload!r}")
    device = device or arrays_of(arrays, "cpu").best()
    made = arrays_of(arrays, device)
    dtype = dtype or ("float32" if device == "cpu" else "bfloat16")
    precision = precision_of(dtype, precision)
    seed = random.SystemRandom().randrange(MOST_SEEDS) if seed is None else seed
    named = (*KINDS, "state") if setup else KINDS
    parameters = parameters_of(impl_func, ARRAYS + NUMBERS, named, "impl_func")
    if setup and "state" not in parameters:
        raise TypeError("impl_func: expected a parameter state for what setup returns, found none")
    of_setup = parameters_of(setup, WEIGHTS, (), "setup") if setup else ()
    run = {
        "run": uuid.uuid4().hex,
        "impl": impl_name or getattr(impl_func, "__name__", type(impl_func).__name__),
        "tags": impl_tags or {},
        "device": device,
        "dtype": dtype,
        "env": environment(made),
        "seed": seed,
        "warmup": warmup,
    }
    seeds = itertools.count(seed * DRAWS)
    path = f"{kind.value}.jsonl" if jsonl is None else jsonl
    records = []
    print(head(run, precision, len(workloads)), flush=True)
    with open(path, "w", encoding="utf-8") as file:
        for workload in workloads:
            caller = TimedCaller(impl_func, parameters, made, setup, of_setup, reuses_output)
            records.append(measured(run, Session(caller, workload, precision, seeds), reps))
            print(json.dumps(records[-1]), file=file, flush=True)
            print(line(records[-1]), flush=True)
    result = Benchmark(head(run, precision, len(workloads)), records)
    print(result.conclusion())
    return result


def measured(run, session, reps):
    """The record of a workload, whose calls are made now."""
    finding = None
    try:
        session.run(run["warmup"], reps)
    except Finding as seen:
        finding = seen
    return finite(record(run, session, finding))


def one_of(name, value, kinds):
    """The member of an enumeration. Raises ``ValueError`` for another value."""
    try:
        return kinds(value)
    except ValueError as error:
        raise ValueError(f"{name}: expected one of {', '.join(kinds)}; found {value!r}") from error


def precision_of(dtype, precision):
    """What outputs of a dtype are judged by. Raises ``ValueError`` where it is of another dtype."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}; found {dtype!r}")
    usual, element = DTYPES[dtype]
    if precision is None:
        return usual
    found = _native.draw_weights((1, 1, 1, 1), precision, 0).tensors()["down_proj"][0]
    if found != element:
        raise ValueError(f"precision: expected one of {dtype}, found {precision!r}, which is one of {found}")
    return precision
