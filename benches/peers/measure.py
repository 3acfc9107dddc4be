"""One row: a peer, in a class of precision, on a workload."""

import math

import torch

from check import Error, poison
from packages import Unavailable
from timing import Uncapturable, capture, first_line, precision


def measure(peer, name, inputs, expected, clock, seconds):
    """The record of a peer. Whatever it raises makes it unavailable; an output that its class may not have makes it
    wrong, and a wrong one is not timed."""
    workload = inputs.workload
    row = {"workload": workload.name, "peer": peer.name, "class": name} | workload.sizes()
    try:
        if name == "tf32" and workload.device != "cuda":
            raise Unavailable("a CPU has no TF32")
        with torch.no_grad(), precision(name):
            return row | _timed(peer.build(inputs, name), name, inputs, expected, clock, seconds)
    except Unavailable as reason:
        return row | {"status": "unavailable", "reason": str(reason)}
    except Exception as error:
        return row | {"status": "unavailable", "reason": first_line(error)}


def _timed(call, name, inputs, expected, clock, seconds):
    """Fields of a row from the calls of a peer: checked, timed eagerly and from a graph, and checked again."""
    workload = inputs.workload

    def eager_error():
        poison(workload)
        return Error.of(call(), expected)

    error = eager_error()
    if not error.is_within(name):
        return _wrong(name, error)
    candidates = {"eager": (call, eager_error)}
    modes = {}
    if workload.device == "cuda":
        try:
            replay = capture(call)
            error_of_graph = _graph_error(replay, expected)
            if error_of_graph().is_within(name):
                candidates["graph"] = (replay, error_of_graph)
            else:
                modes["graph"] = "its output is wrong"
        except Uncapturable as reason:
            modes["graph"] = str(reason)

    bursts = {mode: clock.burst(run) for mode, (run, _) in candidates.items()}
    mode = min(bursts, key=bursts.get)
    run, error_of = candidates[mode]
    sustained = clock.sustained(run, seconds)
    error = error.worse(error_of())
    if not error.is_within(name):
        return _wrong(name, error)
    return {
        "status": "ok",
        "mode": mode,
        "modes": bursts | modes,
        "clock": clock.name,
        "burst_ms": bursts[mode],
        "sustained_ms": sustained,
        "tflops": workload.operations / bursts[mode] / 1e9,
    } | _errors(error)


def _graph_error(replay, expected):
    """A function that fills the graph's output with NaN, replays it and returns the error."""

    def error():
        replay().fill_(math.nan)
        return Error.of(replay(), expected)

    return error


def _wrong(name, error):
    return {"status": "wrong", "reason": f"the error is beyond what {name} may have"} | _errors(error)


def _errors(error):
    return {
        "relative_error": error.relative,
        "max_error": error.maximum,
        "worst_token_relative_error": error.token,
    }
