"""jax, on its CPU or GPU. Its arrays do not change: each call has new ones."""

import jax
import numpy

from .._rules import Broken
from . import _numpy, expect_device


class Jax:
    has_views = False

    def __init__(self, device):
        names = sorted(
            {"cuda" if known.platform == "gpu" else known.platform for known in jax.devices() + jax.devices("cpu")}
        )
        expect_device("jax", device, names)
        self.device = jax.devices(device)[0]

    def place(self, memory):
        rows = _numpy.placed(memory).copy()
        rows = rows.view(jax.numpy.bfloat16) if memory.dtype == "bf16" else rows
        array = jax.device_put(rows, self.device)
        if array.dtype != rows.dtype and memory.dtype == "f64":
            raise ValueError("precision: jax has no f64 here; set jax_enable_x64")
        return array

    def update(self, memory):
        return self.place(memory)

    def written(self, memory):
        return memory.bytes

    def contents(self, name, value, element):
        if not isinstance(value, jax.Array) or isinstance(value, jax.core.Tracer):
            found = type(value)
            message = f"{name}: expected a jax.Array, found a {found.__module__}.{found.__qualname__}"
            raise Broken("not-an-array", message)
        if value.devices() != {self.device}:
            raise Broken("wrong-device", f"{name}: expected {self.device}, found {sorted(map(str, value.devices()))}")
        rows = numpy.asarray(value)
        if rows.dtype == jax.numpy.bfloat16:
            return "bf16", rows.shape, rows.tobytes()
        rows = rows.astype("int64") if rows.dtype == "int32" else rows
        return _numpy.named(rows.dtype, None), rows.shape, rows.tobytes()

    def shares(self, value, memory):
        return False

    def of(self, dtype, shape, data):
        return _numpy.Numpy("cpu").of(dtype, shape, data)

    def poison(self, sizes, dtype):
        pass

    def calls(self):
        return jax.default_device(self.device)

    def finish(self):
        pass

    def is_lost(self, error):
        return False
