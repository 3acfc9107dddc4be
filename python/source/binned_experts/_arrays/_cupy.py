"""cupy, on a GPU. It has no bf16: such arrays are uint16 with the bits."""

import contextlib
import math

import cupy
import numpy

from .._rules import Broken
from . import _numpy, expect_device, expect_type
from ._memory import GUARD


class Cupy:
    has_views = True

    def __init__(self, device):
        expect_device("cupy", device, ["cuda", *(f"cuda:{number}" for number in range(devices()))])
        self.device = cupy.cuda.Device(int(device.partition(":")[2] or 0))

    def place(self, memory):
        with self.device:
            memory.there = cupy.asarray(numpy.frombuffer(memory.bytes, "uint8"))
            memory.kept = memory.there.copy()
            dtype = _numpy.TYPES[memory.dtype]
            storage = memory.there[GUARD : GUARD + memory.size].view(dtype)
            if memory.strides is None:
                return storage.reshape(memory.shape)
            strides = [stride * dtype.itemsize for stride in memory.strides]
            return cupy.ndarray(memory.shape, dtype, storage.data + memory.offset * dtype.itemsize, strides)

    def update(self, memory):
        with self.device:
            memory.there.set(numpy.frombuffer(memory.bytes, "uint8"))
            memory.kept[...] = memory.there
        return memory.array

    def written(self, memory):
        with self.device:
            return memory.bytes if cupy.array_equal(memory.there, memory.kept) else bytearray(memory.there.get())

    def contents(self, name, value, element):
        expect_type(name, value, cupy.ndarray)
        if value.device != self.device:
            raise Broken("wrong-device", f"{name}: expected cuda:{self.device.id}, found cuda:{value.device.id}")
        return _numpy.named(value.dtype, element), value.shape, value.get().tobytes()

    def shares(self, value, memory):
        return bool(cupy.may_share_memory(value, memory.there))

    def of(self, dtype, shape, data):
        return _numpy.Numpy("cpu").of(dtype, shape, data)

    def poison(self, sizes, dtype):
        with self.device:
            held = [cupy.full(size, 0xFFFF if dtype == "bf16" else math.nan, _numpy.TYPES[dtype]) for size in sizes]
            del held

    @contextlib.contextmanager
    def calls(self):
        with self.device:
            yield

    def finish(self):
        self.device.synchronize()

    def is_lost(self, error):
        try:
            self.device.synchronize()
        except cupy.cuda.runtime.CUDARuntimeError:
            return True
        return False


def devices():
    """How many there are."""
    try:
        return cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError:
        return 0
