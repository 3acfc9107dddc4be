"""The arrays of a framework.

A kind of arrays has

- ``place(memory, tensor)``: an array over the bytes of a ``Memory``, on its device;
- ``update(memory)``: the same array after other bytes were written to the memory; ``None`` where arrays cannot change;
- ``written(memory)``: the bytes of the memory with those that a function wrote to the array;
- ``contents(name, value, element)``: the tensor of a value that a function returned for a case of an element type;
- ``shares(value, memory)``: whether a value lies in a memory;
- ``of(dtype, shape, data)``: a new array of a tensor on the CPU, for a person to look at;
- ``poison(sizes, dtype)``: NaN in memory of so many elements that the framework hands out next;
- ``calls()``: a context around calls;
- ``finish()``: waits until the device is idle, and raises what a call left behind;
- ``has_views``: whether an array can have strides and an offset;
- ``is_lost(error)``: whether no later call of this process can be right after an error;

and where a benchmark can time it

- ``best()``: the name of the device that it runs on where none is named;
- ``wait()``: waits until the device is idle, all streams of it;
- ``clock``: makes a call and returns a ``Timed``; it is given the memory of an input too, which it may withhold until the
  call begins. ``evicted`` are the bytes that it writes before, to take out of the device's L2 cache what is there;
- ``copied(value)``: a copy of an output;
- ``watch()``: a function that says how many bytes of the device's memory were taken since, at most, or ``None``;
- ``facts()``: the version of the framework, of CUDA, the name of the GPU and its compute capability.
"""

from .._rules import Broken

KINDS = ("torch", "numpy", "jax", "cupy")


def arrays_of(kind, device):
    """The arrays of a framework on a device.

    Raises ``ValueError`` for a framework or device that is not known, and ``ImportError`` with what to install.
    """
    if kind not in KINDS:
        raise ValueError(f"arrays: expected one of {', '.join(KINDS)}; found {kind!r}")
    try:
        if kind == "numpy":
            from ._numpy import Numpy as Arrays
        elif kind == "torch":
            from ._torch import Torch as Arrays
        elif kind == "jax":
            from ._jax import Jax as Arrays
        else:
            from ._cupy import Cupy as Arrays
    except ImportError as error:
        message = f'arrays="{kind}" needs the package {kind}, which cannot be imported ({error}): pip install {kind}'
        raise ImportError(message) from error
    return Arrays(device)


def expect_device(kind, device, known):
    """Raises ``ValueError`` for a device that a framework does not have."""
    if device not in known:
        raise ValueError(f'device: expected one of {", ".join(known)} for arrays="{kind}", found {device!r}')


def expect_type(name, value, expected):
    """Breaks a rule where a value is not exactly of a type: what is no plain array may compute when it is looked at."""
    if type(value) is not expected:
        found = type(value)
        wanted = f"{expected.__module__}.{expected.__qualname__}"
        raise Broken("not-an-array", f"{name}: expected a {wanted}, found a {found.__module__}.{found.__qualname__}")
