"""Functions that break a rule of a call, and others like them that do not. Each is made anew by a call of its name."""

import threading
import time

import numpy
from kernels import output_of


def changes_an_input():
    def kernel(hidden_states, **case):
        output = output_of({"hidden_states": hidden_states, **case})
        hidden_states *= 2
        return output

    return kernel


def writes_past_the_end():
    def kernel(down_proj, **case):
        output = output_of({"down_proj": down_proj, **case})
        beyond = numpy.lib.stride_tricks.as_strided(down_proj.reshape(-1), (down_proj.size + 1,), (4,))
        beyond[-1] = 0
        return output

    return kernel


def writes_before_the_start():
    def kernel(hidden_states, **case):
        output = output_of({"hidden_states": hidden_states, **case})
        whole = hidden_states
        while isinstance(whole.base, numpy.ndarray):
            whole = whole.base
        # The bytes that numpy.frombuffer was given.
        numpy.frombuffer(whole.base, numpy.uint8)[255] = 0
        return output

    return kernel


def returns_a_view_of_an_input():
    def kernel(hidden_states, **case):
        output = output_of({"hidden_states": hidden_states, **case})
        return hidden_states if numpy.array_equal(output, hidden_states) else hidden_states.view()

    return kernel


class Subclass(numpy.ndarray):
    pass


class Interface:
    def __init__(self, array):
        self.__array_interface__ = array.__array_interface__
        self.array = array


def returns_a_subclass():
    return lambda **case: output_of(case).view(Subclass)


def returns_what_becomes_an_array():
    return lambda **case: Interface(output_of(case))


def returns_one_buffer():
    buffer = numpy.zeros(1 << 20, numpy.float32)

    def kernel(**case):
        output = output_of(case)
        view = buffer[: output.size].reshape(output.shape)
        view[...] = output
        return view

    return kernel


def fills_later():
    def kernel(**case):
        output = output_of(case)
        later = numpy.zeros_like(output)

        def fill():
            time.sleep(0.0005)
            later[...] = output

        threading.Thread(target=fill).start()
        return later

    return kernel


def joins_its_threads():
    def kernel(**case):
        output = output_of(case)
        later = numpy.zeros_like(output)
        thread = threading.Thread(target=lambda: numpy.copyto(later, output))
        thread.start()
        thread.join()
        return later

    return kernel


def keeps_output_by_address():
    kept = {}

    def kernel(hidden_states, **case):
        key = hidden_states.ctypes.data, hidden_states.shape, case["router_indices"].shape, case["gate_up_proj"].shape
        if key not in kept:
            kept.clear()
            kept[key] = output_of({"hidden_states": hidden_states, **case})
        return kept[key].copy()

    return kernel


def keeps_output_by_shape():
    kept = {}

    def kernel(**case):
        key = tuple(getattr(value, "shape", value) for value in case.values())
        if key not in kept:
            kept[key] = output_of(case)
        return kept[key].copy()

    return kernel


def keeps_last_output():
    kept = []

    def kernel(hidden_states, **case):
        if not kept or kept[0].shape != hidden_states.shape:
            kept[:] = [output_of({"hidden_states": hidden_states, **case})]
        return kept[0].copy()

    return kernel


def keeps_weights_by_address():
    kept = {}

    def kernel(gate_up_proj, gate_up_proj_bias, down_proj, down_proj_bias, **case):
        weights = dict(
            gate_up_proj=gate_up_proj,
            gate_up_proj_bias=gate_up_proj_bias,
            down_proj=down_proj,
            down_proj_bias=down_proj_bias,
        )
        key = tuple((array.ctypes.data, array.shape) for array in weights.values())
        if key not in kept:
            kept.clear()
            kept[key] = {name: array.copy() for name, array in weights.items()}
        return output_of({**kept[key], **case})

    return kernel


def packs_weights_by_their_bytes():
    kept = {}

    def kernel(gate_up_proj, down_proj, **case):
        key = gate_up_proj.shape, gate_up_proj.tobytes(), down_proj.shape, down_proj.tobytes()
        if key not in kept:
            kept.clear()
            kept[key] = gate_up_proj.copy(), down_proj.copy()
        gate_up_proj, down_proj = kept[key]
        return output_of({"gate_up_proj": gate_up_proj, "down_proj": down_proj, **case})

    return kernel


def keeps_a_workspace():
    workspace = numpy.empty(1 << 20, numpy.float32)

    def kernel(**case):
        output = output_of(case)
        view = workspace[: output.size].reshape(output.shape)
        view[...] = output
        return view.copy()

    return kernel


def plans_by_shape():
    plans = {}

    def kernel(**case):
        plans.setdefault(case["hidden_states"].shape, len(plans))
        return output_of(case)

    return kernel


def restores_an_input():
    def kernel(hidden_states, **case):
        was = hidden_states.copy()
        hidden_states[...] = 0
        hidden_states[...] = was
        return output_of({"hidden_states": hidden_states, **case})

    return kernel


def copies_an_input():
    def kernel(hidden_states, **case):
        return output_of({"hidden_states": hidden_states.copy(), **case})

    return kernel


def keeps_output_by_sample():
    """By a few of the hidden states."""
    kept = {}

    def kernel(hidden_states, **case):
        key = hidden_states.shape, hidden_states.reshape(-1)[:8].tobytes()
        if key not in kept:
            kept[key] = output_of({"hidden_states": hidden_states, **case})
        return kept[key].copy()

    return kernel


def keeps_output_by_sum():
    """By a sum over the hidden states."""
    kept = {}

    def kernel(hidden_states, **case):
        key = hidden_states.shape, round(float(hidden_states.sum(dtype=numpy.float64)), 6)
        if key not in kept:
            kept[key] = output_of({"hidden_states": hidden_states, **case})
        return kept[key].copy()

    return kernel


def keeps_output_by_content():
    """Never wrong, and free where the same values come again."""
    kept = {}

    def kernel(**case):
        key = hash(tuple(value.tobytes() for value in case.values() if isinstance(value, numpy.ndarray)))
        if key not in kept:
            time.sleep(0.005)
            kept[key] = output_of(case)
        return kept[key].copy()

    return kernel


def takes_some_milliseconds():
    def kernel(**case):
        time.sleep(0.005)
        return output_of(case)

    return kernel


def every_other_call_is_slow():
    calls = []

    def kernel(**case):
        calls.append(1)
        time.sleep(0.015 * (len(calls) % 2))
        return output_of(case)

    return kernel


def right_ten_times():
    calls = []

    def kernel(**case):
        calls.append(1)
        output = output_of(case)
        return output if len(calls) <= 10 else numpy.zeros_like(output) + output[0, 0]

    return kernel


def right_on_first_row():
    def kernel(**case):
        output = output_of(case)
        output[:, 1:] *= numpy.float32(1.001)
        return output

    return kernel


def second_slot_dropped_after_warmup():
    calls = []

    def kernel(router_indices, routing_weights, **case):
        calls.append(1)
        if len(calls) > 6:
            routing_weights = routing_weights.copy()
            flat = routing_weights.reshape(-1, routing_weights.shape[2])
            tokens = numpy.flatnonzero(router_indices[:, 0] != router_indices[:, 1])
            flat[tokens, router_indices[tokens, 1]] = 0
        return output_of({"router_indices": router_indices, "routing_weights": routing_weights, **case})

    return kernel


def fills_at_next_call():
    pending = []

    def kernel(**case):
        for output, values in pending:
            output[...] = values
        output = output_of(case)
        pending[:] = [(numpy.zeros_like(output), output)]
        return pending[0][0]

    return kernel


def returns_zeros():
    return lambda hidden_states, **case: numpy.zeros_like(hidden_states)


def one_row_is_nan():
    def kernel(**case):
        output = output_of(case)
        output[-1, -1, 0] = numpy.nan
        return output

    return kernel


def computes_in_half():
    def kernel(hidden_states, gate_up_proj, **case):
        halves = {"hidden_states": hidden_states, "gate_up_proj": gate_up_proj}
        halves = {name: value.astype(numpy.float16).astype(numpy.float32) for name, value in halves.items()}
        return output_of({**halves, **case})

    return kernel


def clears_the_routing():
    def kernel(routing_weights, **case):
        output = output_of({"routing_weights": routing_weights, **case})
        routing_weights[...] = 0
        return output

    return kernel


def tunes_on_first_call():
    tuned = []

    def kernel(**case):
        if not tuned:
            time.sleep(0.02)
            tuned.append(1)
        return output_of(case)

    return kernel


def skips_zero_weights():
    def kernel(routing_weights, router_indices, **case):
        chosen = numpy.zeros(routing_weights.reshape(-1, routing_weights.shape[2]).shape, bool)
        numpy.put_along_axis(chosen, router_indices, True, axis=1)
        routing_weights = numpy.where(chosen.reshape(routing_weights.shape), routing_weights, 0)
        return output_of({"routing_weights": routing_weights, "router_indices": router_indices, **case})

    return kernel


def other_bits_each_time():
    """Within the bounds."""
    calls = []

    def kernel(**case):
        calls.append(1)
        output = output_of(case)
        return output * numpy.float32(1 + (len(calls) % 2) * 2**-23)

    return kernel


def prints_a_lot():
    def kernel(**case):
        print("a line of a kernel\n" * 20)
        return output_of(case)

    return kernel


def is_unsteady():
    calls = []

    def kernel(**case):
        calls.append(1)
        time.sleep(0.002 * (len(calls) % 3))
        return output_of(case)

    return kernel
