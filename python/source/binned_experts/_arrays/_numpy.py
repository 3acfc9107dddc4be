"""numpy, on the CPU. It has no bf16: such arrays are uint16 with the bits."""

import contextlib
import math

import numpy

from . import expect_device, expect_type
from ._clock import WallClock
from ._memory import GUARD, WIDTHS

TYPES = {
    "f32": numpy.dtype("float32"),
    "f64": numpy.dtype("float64"),
    "f16": numpy.dtype("float16"),
    "bf16": numpy.dtype("uint16"),
    "i64": numpy.dtype("int64"),
    "u8": numpy.dtype("uint8"),
}


class Numpy:
    has_views = True
    clock = WallClock()

    def __init__(self, device):
        expect_device("numpy", device, ("cpu",))

    def place(self, memory):
        return placed(memory)

    def update(self, memory):
        return memory.array

    def written(self, memory):
        return memory.bytes

    def contents(self, name, value, element):
        expect_type(name, value, numpy.ndarray)
        return named(value.dtype, element), value.shape, value.tobytes()

    def shares(self, value, memory):
        return numpy.may_share_memory(value, memory.array)

    def of(self, dtype, shape, data):
        return numpy.frombuffer(bytearray(data), TYPES[dtype]).reshape(shape)

    def poison(self, sizes, dtype):
        held = [numpy.full(size, 0xFFFF if dtype == "bf16" else math.nan, TYPES[dtype]) for size in sizes]
        del held

    def calls(self):
        return contextlib.nullcontext()

    def finish(self):
        pass

    def is_lost(self, error):
        return False

    def best(self):
        return "cpu"

    def wait(self):
        pass

    def copied(self, value):
        return numpy.array(value)

    def watch(self):
        return lambda: None

    def facts(self):
        return {"torch": None, "cuda": "", "gpu": "", "sm": ""}


def placed(memory):
    """An array over the bytes of a memory."""
    dtype, width = TYPES[memory.dtype], WIDTHS[memory.dtype]
    storage = numpy.frombuffer(memory.bytes, dtype, memory.size // width, GUARD)
    if memory.strides is None:
        return storage.reshape(memory.shape)
    strides = [stride * width for stride in memory.strides]
    return numpy.ndarray(memory.shape, dtype, storage, memory.offset * width, strides)


def named(dtype, element):
    """The name of an element type; that of a case in bf16 for uint16."""
    if dtype == TYPES["bf16"] and element == "bf16":
        return "bf16"
    names = (name for name, known in TYPES.items() if known == dtype and name != "bf16")
    return next(names, str(dtype))
