"""torch, on the CPU or a GPU."""

import ctypes
import math
from functools import cached_property

import torch

from .._rules import Broken
from . import expect_type
from ._clock import WallClock
from ._memory import GUARD
from ._torch_clock import CudaClock

TYPES = {
    "f32": torch.float32,
    "f64": torch.float64,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "i64": torch.int64,
    "u8": torch.uint8,
}


class Torch:
    has_views = True

    def __init__(self, device):
        try:
            self.device = torch.empty(0, device=device).device
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"device: expected one that torch has here, found {device!r}: {error}") from error

    def place(self, memory):
        """On the CPU the tensor lies in the memory itself, elsewhere in a copy that has the same guards."""
        memory.there = torch.frombuffer(memory.bytes, dtype=torch.uint8).to(self.device)
        if self.device.type != "cpu":
            memory.kept = memory.there.clone()
        elements = memory.there[GUARD : GUARD + memory.size].view(TYPES[memory.dtype])
        if memory.strides is None:
            return elements.view(memory.shape)
        return elements.as_strided(memory.shape, memory.strides, elements.storage_offset() + memory.offset)

    def update(self, memory):
        if self.device.type != "cpu":
            memory.there.copy_(torch.frombuffer(memory.bytes, dtype=torch.uint8))
            memory.kept = memory.there.clone()
        return memory.array

    def written(self, memory):
        # On the device this takes a hundredth of the time of a copy to the CPU.
        if self.device.type == "cpu" or torch.equal(memory.there, memory.kept):
            return memory.bytes
        return bytearray(bytes_of(memory.there))

    def contents(self, name, value, element):
        if type(value) is torch.nn.Parameter:
            value = value.data
        expect_type(name, value, torch.Tensor)
        overridden = sorted(name for name in vars(value) if hasattr(torch.Tensor, name))
        if overridden:
            raise Broken("not-an-array", f"{name}: expected a plain tensor, found one with its own {overridden[0]}")
        if value.device != self.device:
            raise Broken("wrong-device", f"{name}: expected {self.device}, found {value.device}")
        names = (known for known, dtype in TYPES.items() if dtype == value.dtype)
        return next(names, str(value.dtype)), tuple(value.shape), bytes_of(value)

    def shares(self, value, memory):
        mine, others = value.untyped_storage(), memory.there.untyped_storage()
        start, other = mine.data_ptr(), others.data_ptr()
        return value.numel() > 0 and start < other + others.nbytes() and other < start + mine.nbytes()

    def of(self, dtype, shape, data):
        if not data:
            return torch.empty(shape, dtype=TYPES[dtype])
        return torch.frombuffer(bytearray(data), dtype=TYPES[dtype]).view(shape)

    def poison(self, sizes, dtype):
        held = [torch.full((size,), math.nan, dtype=TYPES[dtype], device=self.device) for size in sizes]
        del held

    def calls(self):
        return torch.no_grad()

    def finish(self):
        if self.device.type == "cuda":
            # A launch that failed, and after which nobody looked, is raised by the next one.
            torch.ones(1, device=self.device)
        self.wait()

    def is_lost(self, error):
        if self.device.type != "cuda":
            return False
        try:
            torch.cuda.synchronize(self.device)
        except RuntimeError:
            return True
        return False

    @cached_property
    def clock(self):
        return CudaClock(self.device) if self.device.type == "cuda" else WallClock()

    def best(self):
        return "cuda" if torch.cuda.is_available() else "cpu"

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def copied(self, value):
        return value.clone()

    def watch(self):
        if self.device.type != "cuda":
            return lambda: None
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        return lambda: torch.cuda.max_memory_allocated(self.device) - before

    def facts(self):
        gpu, sm = "", ""
        if torch.cuda.is_available():
            properties = torch.cuda.get_device_properties(self.device if self.device.type == "cuda" else 0)
            gpu, sm = properties.name, f"{properties.major}.{properties.minor}"
        return {"torch": torch.__version__, "cuda": torch.version.cuda or "", "gpu": gpu, "sm": sm}


def bytes_of(tensor):
    """The bytes of a tensor in row-major order."""
    rows = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    return ctypes.string_at(rows.data_ptr(), rows.numel() * rows.element_size()) if rows.numel() else b""
