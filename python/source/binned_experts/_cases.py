"""Single cases as values."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from . import _native
from ._arrays import arrays_of
from ._arrays._memory import Memory
from ._call import ABSENT, parameters_of
from ._domain import domain_of
from ._native import Domain, Verdict
from ._rules import Broken


class Case:
    """A case: the arrays of a call, the right results, and how far a right result may be from them.

    ``pytest.mark.parametrize("case", cases(100, precision="fp32"))`` names its tests by their sizes.
    """

    def __init__(self, native: _native.Case, arrays: Any) -> None:
        self._native = native
        self._arrays = arrays
        # pytest names a parameter by this.
        self.__name__ = native.id

    @property
    def id(self) -> str:
        """The seed, where it comes from one, and the sizes in the order T, H, I, E, K, C."""
        return self._native.id

    @property
    def spec(self) -> str:
        """The case as text (TOML), from which it is made again on every machine."""
        return self._native.spec

    @property
    def line(self) -> str:
        """The line of Python that makes the case again."""
        return self._native.line

    @property
    def precision(self) -> str:
        """The precision that results are judged by."""
        return self._native.precision

    @property
    def inputs(self) -> dict[str, Any]:
        """The arguments of a call by name: new arrays each time, and numbers."""
        tensors, numbers = self._native.arguments()
        arrays = {name: self._arrays.place(Memory(*tensor)) for name, tensor in tensors.items()}
        return {**arrays, **numbers}

    def call(self, function: Callable[..., Any]) -> Any:
        """What a function returns for the arguments that it has parameters for."""
        inputs = ABSENT | self.inputs
        return function(**{name: inputs[name] for name in parameters_of(function)})

    @property
    def expected(self) -> Any:
        """The right output ``[B,S,H]``, in f64, on the CPU."""
        return self._arrays.of(*self._native.right()["output"])

    @property
    def bound(self) -> Any:
        """How far each element of a right output may be from the expected one, ``[B,S,H]``, in f64, on the CPU."""
        return self._arrays.of(*self._native.right()["bound"])

    def compare(self, result: Any) -> Verdict:
        """The verdict on an output ``[B,S,H]``, or on a dict with ``output`` and stages."""
        values = result if isinstance(result, dict) else {"output": result}
        try:
            tensors = {name: self._arrays.contents(name, value, self._native.element) for name, value in values.items()}
        except Broken as broken:
            return self._native.broken(broken.rule, str(broken))
        return self._native.judge(tensors)

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return self.line


def case(
    text: str | None = None,
    *,
    seed: int | None = None,
    precision: str | None = None,
    domain: Domain | dict[str, Any] | str | os.PathLike[str] | None = None,
    device: str = "cpu",
    arrays: str = "torch",
) -> Case:
    """One case: of its text, or of a seed number inside a domain.

    Without ``precision`` a case as text is judged by that of its element type, and a seed number draws one in fp32.
    """
    named = named_arrays(arrays, device)
    if text is not None and seed is None:
        native = _native.case_of_text(text, precision, named)
    elif text is None and seed is not None:
        native = _native.case_of_seed(seed, precision or "fp32", domain_of(domain), named)
    else:
        found = "neither" if seed is None else "both"
        raise TypeError(f"case: expected either the text of a case or a seed, found {found}")
    return Case(native, arrays_of(arrays, device))


def cases(
    n: int,
    *,
    precision: str,
    seed: int = 0,
    domain: Domain | dict[str, Any] | str | os.PathLike[str] | None = None,
    device: str = "cpu",
    arrays: str = "torch",
) -> list[Case]:
    """The cases of ``n`` seed numbers from ``seed`` on: those that ``check`` draws inside the same domain."""
    made, claims, named = arrays_of(arrays, device), domain_of(domain), named_arrays(arrays, device)
    numbers = range(seed, seed + n)
    return [Case(_native.case_of_seed(number, precision, claims, named), made) for number in numbers]


def named_arrays(arrays: str, device: str) -> str:
    """The arguments of ``case`` that name its arrays, as they follow others in its line."""
    named = "" if arrays == "torch" else f', arrays="{arrays}"'
    return named if device == "cpu" else f'{named}, device="{device}"'
