"""What the scripts that write tests/layers share: a file of a case with PyTorch's results."""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file


def folder():
    """The first argument, or tests/layers."""
    found = Path(sys.argv[1] if len(sys.argv) > 1 else "tests/layers")
    found.mkdir(parents=True, exist_ok=True)
    return found


def results(forward, case):
    """The output of a case in its types, and in f64."""
    wide = {name: value.double() if value.is_floating_point() else value for name, value in case.items()}
    return {"output": forward(case), "output_f64": forward(wide)}


def save(path, tensors, capacity, layer, **metadata):
    """Writes a file with the fields of `layer` that are not as in gpt-oss, and with the versions of packages."""
    texts = {"expert_capacity": str(capacity), "torch": torch.__version__} | metadata
    if layer:
        texts["layer"] = json.dumps(layer)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, texts)
