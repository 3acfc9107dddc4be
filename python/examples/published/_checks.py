"""What a file of the gallery lists, and which files there are."""

import importlib
import pathlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Check:
    """A call of a kernel, with what it claims and takes; the fields are arguments of ``binned_experts.check``."""

    name: str
    version: str
    function: Callable[..., Any]
    precision: str
    domain: dict[str, Any] = field(default_factory=dict)
    arrays: str = "torch"
    # What is compiled for each H, I, E and K gets few of them, and few tries to make a case smaller.
    shapes: int = 0
    shrink_budget: int = 300
    on_cpu: bool = False


def modules():
    """The names of the files with kernels."""
    files = pathlib.Path(__file__).parent.glob("*.py")
    return sorted(file.stem for file in files if not file.stem.startswith("_"))


def checks_of(module):
    """The checks of a file by name. What it needs is imported, and compiled where it is a source."""
    return {check.name: check for check in importlib.import_module(f"published.{module}").CHECKS}
