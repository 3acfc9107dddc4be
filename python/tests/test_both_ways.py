"""A function has the same verdicts in this process, in one of its own, and as a program of the command."""

import json
import pathlib
import subprocess
import sys

import kernels
import pytest

from binned_experts import check

CASES = 200


# Small cases are as many as large ones, and take less time.
DOMAIN = """
tokens = { max = 40 }
hidden = { max = 24 }
intermediate = { max = 24 }
experts = { max = 16 }
tie_order = "stable"
"""


def by_command(bug, domain):
    """The verdict on each case of a program, by the command of the same package."""
    program = [sys.executable, str(pathlib.Path(kernels.__file__)), bug]
    command = [sys.executable, "-m", "binned_experts", "check", "--command", " ".join(program), "--precision", "fp32"]
    command += ["--domain", str(domain), "--cases", str(CASES), "--shrink-budget", "0", "--format", "json"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stderr
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    return {line["case"]: line["verdict"] for line in lines if line["type"] == "case"}


@pytest.mark.parametrize("bug", kernels.BUGS, ids=[bug.__name__ for bug in kernels.BUGS])
def test_a_planted_bug_is_caught_on_the_same_seeds(bug, monkeypatch, tmp_path):
    # The command leaves failing cases where it runs.
    monkeypatch.chdir(tmp_path)
    domain = tmp_path / "domain.toml"
    domain.write_text(DOMAIN)
    kernel = kernels.function(bug)
    report = check(kernel, precision="fp32", domain=domain, arrays="numpy", cases=CASES, shrink_budget=0)
    assert sum(verdict != "agree" for verdict in report.verdicts.values()) > 2
    assert report.verdicts == by_command(bug.__name__, domain)
