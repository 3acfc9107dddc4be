"""What a published kernel needs around it: a program of protocol 2 (docs/protocol.md) on a GPU.

A kernel's file names its domain and hands `serve` two functions: `pack(weights)` brings the experts' weights into the
kernel's layout, once for each new set of them; `forward(case, packed)` returns `[T,H]`. This file is imported before
the kernel, because it takes standard output away. examples/engines/torch_engine.py has the reasons for the rest.

Sources that are no installed packages are looked for in the folder PUBLISHED_SOURCES, which holds a clone of each
project under its name. What is compiled from them is kept in the folder PUBLISHED_BUILD.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import types
from types import SimpleNamespace

import torch
from safetensors import safe_open
from safetensors.torch import save_file

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# What a kernel or its import prints goes to standard error.
ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
POISONED = [1 << 12] * 16 + [1 << 18] * 4 + [1 << 20, 1 << 26]


class Skip(Exception):
    """The kernel's call cannot say this."""


def serve(name, domain, pack, forward):
    """Answers the requests on standard input until it ends."""
    program = Program(domain, pack, forward)
    with torch.inference_mode():
        for line in sys.stdin:
            request = json.loads(line)
            if "describe" in request:
                answer = {"domain": domain, "name": name, "weights_apart": True}
            else:
                answer = program.answer(request)
            print(json.dumps(answer), file=ANSWERS, flush=True)


class Program:
    def __init__(self, domain, pack, forward):
        self.domain = domain
        self.pack = pack
        self.forward = forward
        self.packed = None

    def answer(self, request):
        try:
            if request["weights_changed"]:
                self.packed = None
                weights, _ = read(request["weights"])
                self.packed = self.pack(SimpleNamespace(**weights))
            case = Case(*read(request["case"]))
            refuse_the_unsayable(case, self.domain)
            poison()
            output = self.forward(case, self.packed).view(case.shape)
            save_file({"output": output.cpu().contiguous()}, request["output"])
            return {"ok": True}
        except Skip as reason:
            return {"skip": str(reason)}
        except Exception as error:
            end_if_lost()
            return {"error": f"{type(error).__name__}: {error}"[:1000]}


def read(path):
    """The tensors of a file in plain row-major memory of the device, and the metadata."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        return {name: tensor.to(DEVICE, copy=True) for name, tensor in tensors.items()}, file.metadata()


class Case:
    """The tokens and their routing."""

    def __init__(self, tensors, metadata):
        self.shape = tensors["hidden_states"].shape
        self.x = tensors["hidden_states"].flatten(0, 1)  # [T,H]
        self.indices = tensors["router_indices"]  # [T,K]
        self.routing_weights = tensors["routing_weights"].flatten(0, 1)  # [T,E]
        self.weights = self.routing_weights.gather(1, self.indices)  # [T,K]
        self.experts = self.routing_weights.shape[1]
        self.top_k = self.indices.shape[1]
        self.capacity = int(metadata["expert_capacity"])
        self.alpha = float(metadata.get("alpha", 1.702))
        self.limit = float(metadata.get("limit", 7.0))

    def by_expert(self):
        """The flat indices by expert, the expert of each, and how many each expert has."""
        experts, order = torch.sort(self.indices.flatten(), stable=True)
        return order, experts, torch.bincount(experts, minlength=self.experts)

    def activate(self, gate_up):
        gate, up = gate_up[..., 0::2].clamp(max=self.limit), gate_up[..., 1::2].clamp(min=-self.limit, max=self.limit)
        return (up + 1) * (gate * torch.sigmoid(self.alpha * gate))

    def combine(self, rows, order=slice(None)):
        """The weighted sum over the slots of each token, of one row for each flat index in `order`."""
        slots = torch.empty_like(rows)
        slots[order] = rows
        return (slots.unflatten(0, self.indices.shape) * self.weights[:, :, None]).sum(dim=1)


def refuse_the_unsayable(case, domain):
    """What is fixed in a kernel, or unknown to it, cannot be asked of it: it is not called with something else."""
    for name in ("alpha", "limit"):
        if name in domain and getattr(case, name) not in domain[name]:
            raise Skip(f"{name} is fixed")
    if domain.get("drops") is False and case.indices.numel() > 0:
        if torch.bincount(case.indices.flatten()).max() > case.capacity:
            raise Skip("there is no capacity")


def poison():
    """Fills memory with NaN and frees it again: the allocator keeps it and hands it out next."""
    if DEVICE == "cuda":
        held = [torch.full((size // 4,), float("nan"), device=DEVICE) for size in POISONED]
        del held


def end_if_lost():
    """A fault of the GPU spoils its context: the process ends, and the check starts it again."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def source(project, path=""):
    """A file of a project's clone."""
    folder = os.environ.get("PUBLISHED_SOURCES")
    if folder is None:
        sys.exit("expected a folder with clones of the projects in PUBLISHED_SOURCES, found nothing")
    return os.path.join(os.path.abspath(folder), project, path)


def commit(project):
    """The commit of a clone; a folder that holds only some of its files has it in a file COMMIT."""
    written = source(project, "COMMIT")
    if os.path.exists(written):
        return open(written, encoding="utf-8").read().strip()[:7]
    arguments = ["git", "-C", source(project), "rev-parse", "--short=7", "HEAD"]
    return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.strip()


def build_folder(project):
    folder = os.environ.get("PUBLISHED_BUILD", os.path.join(tempfile.gettempdir(), "binned-experts-published"))
    folder = os.path.join(folder, f"{project}-{commit(project)}")
    os.makedirs(folder, exist_ok=True)
    return folder


class Absent:
    """A name that a file imports and that the call under test must not need."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent()

    def __or__(self, other):
        return self

    __ror__ = __or__

    def __bool__(self):
        raise RuntimeError("a stand-in was asked")


class Package(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent()


def stand_in(name, **names):
    """A module in place of one that a file imports. What is not among `names` is absent."""
    module = sys.modules[name] = Package(name)
    module.__path__ = []
    module.__dict__.update(names)
    join(name, module)
    return module


def load(name, path):
    """A module from its file."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    join(name, module)
    return module


def join(name, module):
    package, _, last = name.rpartition(".")
    if package in sys.modules:
        setattr(sys.modules[package], last, module)
