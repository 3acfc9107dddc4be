"""Kernels that are no installed packages: their files, and stand-ins for the modules around them.

The folder PUBLISHED_SOURCES holds a clone of each project, or its unpacked wheel, under its name. What is compiled
from them is kept in the folder PUBLISHED_BUILD.
"""

import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile
import types


def source(project, path=""):
    """A file of a project, such as ``source("shawntan/scattermoe", "setup.py")``."""
    sources = os.environ.get("PUBLISHED_SOURCES")
    if sources is None:
        raise ImportError(f"{project} is looked for in the folder PUBLISHED_SOURCES, which is not set")
    folder = pathlib.Path(sources).absolute() / project.rpartition("/")[2]
    if not folder.is_dir():
        raise ImportError(f"{project}: expected a clone or an unpacked wheel in {sources}, found none")
    return str(folder / path)


def version(project):
    """The version of an unpacked wheel, or the commit of a clone; a part of one has it in a file COMMIT."""
    folder = pathlib.Path(source(project))
    for metadata in folder.glob("*.dist-info"):
        return metadata.stem.rpartition("-")[2]
    if (folder / "COMMIT").exists():
        return (folder / "COMMIT").read_text(encoding="utf-8").strip()[:7]
    arguments = ["git", "-C", folder, "rev-parse", "--short=7", "HEAD"]
    return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.strip()


def build_folder(project):
    """Where what is compiled of this version lies."""
    builds = os.environ.get("PUBLISHED_BUILD", os.path.join(tempfile.gettempdir(), "binned-experts-published"))
    folder = os.path.join(builds, f"{project.rpartition('/')[2]}-{version(project)}")
    os.makedirs(folder, exist_ok=True)
    return folder


class Absent:
    """A name that a file imports and that the call under test must not need."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent()

    def __call__(self, *arguments, **options):
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
    """A module in place of one that a file imports, and of its packages. What is not among ``names`` is absent."""
    package = name.rpartition(".")[0]
    if package and package not in sys.modules:
        stand_in(package)
    module = sys.modules[name] = Package(name)
    module.__path__ = []
    module.__dict__.update(names)
    return joined(name, module)


def load(name, path):
    """A module from its file."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return joined(name, module)


def joined(name, module):
    package, _, last = name.rpartition(".")
    if package in sys.modules:
        setattr(sys.modules[package], last, module)
    return module
