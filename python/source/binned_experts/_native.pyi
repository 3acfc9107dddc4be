"""What the package has in Rust."""

from collections.abc import Callable
from typing import Any, TypeAlias, final

from ._cases import Case as Value

# A tensor: the name of its type, its shape, and its bytes in row-major order.
_Tensor: TypeAlias = tuple[str, tuple[int, ...] | list[int], bytes]
# The same of a view, with the bytes of its storage, and its strides and offset in elements.
_View: TypeAlias = tuple[str, list[int], bytes, list[int], int]
_Arguments: TypeAlias = tuple[dict[str, _Tensor | _View], dict[str, Any]]
# Number of cases, first seed, number of shapes with 0 for any, and the most cases tried to make a failing one smaller.
_Size: TypeAlias = tuple[int, int, int, int]

@final
class Domain:
    @staticmethod
    def from_json(text: str) -> Domain: ...
    @staticmethod
    def from_toml(text: str) -> Domain: ...
    def of_function(self, precision: str, parameters: list[str]) -> Domain: ...
    def to_json(self) -> str: ...

@final
class Verdict:
    """The verdict on one result. It is true where the result is right; ``str`` says what is wrong, and where."""

    @property
    def agrees(self) -> bool:
        """Whether the result is right."""
    @property
    def kind(self) -> str:
        """A short name, such as ``agree``, ``disagree``, ``wrong-shape``, ``input-changed``."""
    @property
    def used(self) -> float | None:
        """The largest share of a bound that was used, 0 to 1; ``None`` where the result is not right."""
    def __bool__(self) -> bool: ...
    def _repr_html_(self) -> str:
        """The text, and a picture of wrong values: tokens down, columns across."""
    def assert_agrees(self) -> None:
        """Raises ``AssertionError`` with the text, and the line of Python that makes the case again."""

@final
class Failure:
    """The first failing case of a kind. ``str`` is what the report says of it."""

    @property
    def name(self) -> str:
        """``seed N``."""
    @property
    def kind(self) -> str:
        """A short name of what failed, such as ``disagree``, ``wrong-shape``, ``input-changed``."""
    @property
    def seconds(self) -> float:
        """Seconds from the start of the run until it was seen."""
    @property
    def case(self) -> Value | None:
        """The case as it was drawn."""
    @property
    def verdict(self) -> Verdict:
        """The verdict on it."""
    @property
    def shrunk(self) -> Value | None:
        """The smallest case that was found to fail in the same way."""

@final
class Report:
    """What a check found. ``str`` is the report that the command prints."""

    @property
    def agrees(self) -> bool:
        """Whether the run is complete, and the function was compared on enough cases, failed on none, is not biased."""
    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the run."""
    @property
    def domain(self) -> Domain:
        """Which cases were drawn, and what the function claims; ``str`` says it in a line."""
    @property
    def cases(self) -> int:
        """Number of cases that were run."""
    @property
    def counts(self) -> dict[str, int]:
        """Number of cases by verdict: ``agree``, ``disagree``, ``fault``, ``declined``, ``skipped``."""
    @property
    def verdicts(self) -> dict[str, str]:
        """The verdict on each case by the name of the case, ``seed N``."""
    @property
    def coverage(self) -> dict[str, int]:
        """In how many cases each situation occurred."""
    @property
    def kinds(self) -> dict[str, int]:
        """Number of failing cases by what they have in common."""
    @property
    def declined(self) -> dict[str, int]:
        """Number of declined cases by reason, with ``#`` for each number."""
    @property
    def failures(self) -> list[Failure]:
        """The first failure of each kind."""
    @property
    def case_seconds(self) -> tuple[float, float] | None:
        """Seconds of the median case and of the longest in the function; ``None`` where no case was compared."""
    def _repr_html_(self) -> str:
        """The counts as a table, the conclusion, and each failure."""
    def assert_agrees(self) -> None:
        """Raises ``AssertionError`` with the report unless it agrees."""

@final
class Case:
    @property
    def id(self) -> str: ...
    @property
    def spec(self) -> str: ...
    @property
    def line(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def element(self) -> str: ...
    def arguments(self) -> _Arguments: ...
    def right(self) -> dict[str, _Tensor]: ...
    def judge(self, result: dict[str, _Tensor]) -> Verdict: ...
    def broken(self, rule: str, message: str) -> Verdict: ...

@final
class Weights:
    def tensors(self) -> dict[str, _Tensor]: ...
    def call(self, batch: int, sequence: int, seed: int) -> Call: ...

@final
class Call:
    def tensors(self) -> dict[str, _Tensor]: ...
    def with_exchanged_tokens(self, seed: int) -> tuple[Call, list[int]]: ...
    def with_other_routing(self, seed: int) -> tuple[Call, list[int]]: ...
    def necessary(self) -> tuple[int, int, int]: ...
    def judge(
        self, output: _Tensor, tokens: list[int]
    ) -> tuple[Verdict, int, tuple[float, float, float] | None]: ...
    def is_of_weights(self, earlier: Weights, output: _Tensor, tokens: list[int]) -> bool: ...

def draw_weights(sizes: tuple[int, int, int, int], precision: str, seed: int) -> Weights: ...
def case_of_seed(seed: int, precision: str, domain: Domain, arrays: str) -> Case: ...
def case_of_text(text: str, precision: str | None, arrays: str) -> Case: ...
def check(
    caller: Callable[[dict[str, _Tensor], dict[str, float]], tuple[str, Any]],
    name: str,
    domain: Domain,
    size: _Size,
    time_limit: float,
    arrays: str,
    wrap: Callable[[Case], Value],
) -> Report: ...
def check_program(
    command: str, size: _Size, time_limit: float, arrays: str, wrap: Callable[[Case], Value]
) -> Report: ...
def command(started_as: list[str], arguments: list[str]) -> int: ...
def read_case(path: str) -> _Arguments: ...
def write_result(path: str, result: dict[str, _Tensor]) -> None: ...

@final
class Kernels:
    def __new__(
        cls,
        dtype: str,
        weights: list[int],
        sizes: tuple[int, int, int],
        place: tuple[int, int],
        activation: tuple[str, float, float],
        scale: float,
        first_expert: int,
        batch_invariant: bool,
    ) -> Kernels: ...
    @property
    def path(self) -> str: ...
    def forward(self, at: list[int], sizes: tuple[int, int, int], stream: int) -> None: ...
