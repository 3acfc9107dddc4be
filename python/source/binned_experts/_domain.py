"""Domains as a person writes them."""

import json
import math
import os

from ._native import Domain


def domain_of(value):
    """The domain of a dict, of TOML text, of the path of a TOML file, or of ``None`` for any case.

    The fields are those of docs/protocol.md. A text with a ``=`` is TOML, any other a path.
    """
    if value is None:
        return Domain.from_json("{}")
    if isinstance(value, Domain):
        return value
    if isinstance(value, dict):
        return Domain.from_json(json.dumps(in_json(value)))
    if isinstance(value, str) and "=" in value:
        return Domain.from_toml(value)
    if isinstance(value, (str, os.PathLike)):
        with open(value, encoding="utf-8") as file:
            return Domain.from_toml(file.read())
    raise TypeError(f"domain: expected a dict, TOML or a path, found {type(value).__qualname__}")


def in_json(value):
    """JSON has no infinity: a domain has it as text."""
    if isinstance(value, dict):
        return {name: in_json(field) for name, field in value.items()}
    if isinstance(value, (list, tuple)):
        return [in_json(entry) for entry in value]
    return "inf" if value == math.inf else value
