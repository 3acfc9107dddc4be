"""What the documentation shows runs as it stands."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
EXAMPLES = ROOT / "python" / "examples"


def test_the_readme_runs(capfd):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    exec(compile(block, "README.md", "exec"), {})


@pytest.mark.parametrize("arguments", [["numpy_ten_lines.py"], ["-m", "pytest", "-q", "test_numpy.py"]])
def test_the_examples_in_numpy_run(arguments):
    run = subprocess.run([sys.executable, *arguments], cwd=EXAMPLES, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(("package", "example"), [("torch", "torch_kernel.py"), ("triton", "triton_kernel.py")])
def test_the_examples_in_torch_run(package, example):
    pytest.importorskip(package)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TRITON_INTERPRET": "1"}
    run = subprocess.run(
        [sys.executable, example], cwd=EXAMPLES, capture_output=True, text=True, check=False, env=environment
    )
    assert run.returncode == 0, run.stdout + run.stderr
