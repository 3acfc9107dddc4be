"""The gallery of published kernels: its files, and its runner on kernels in numpy."""

import ast
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

GALLERY = pathlib.Path(__file__).parents[1] / "examples" / "published"
FILES = sorted(file for file in GALLERY.glob("*.py") if not file.stem.startswith("_"))
KERNELS = '''
import time

from kernels import function, plus_one_forgotten, right

from ._checks import Check

SMALL = {"tokens": {"min": 1, "max": 8}, "hidden": {"max": 8}, "intermediate": {"max": 8}, "experts": {"max": 8}}
wrong = function(plus_one_forgotten)


def is_right(**case):
    return right(**case)


def is_wrong(**case):
    return wrong(**case)


def hangs(**case):
    time.sleep(1000)


CHECKS = [
    Check(kernel.__name__, "1.2", kernel, "fp32", SMALL, arrays="numpy")
    for kernel in (is_right, is_wrong, hangs)
]
'''


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_says_what_it_is_and_lists_checks(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    title, _, rest = ast.get_docstring(tree).partition("\n\n")
    assert rest.startswith("Domain. ") and ("(package " in title or "tried: " in title)
    assert isinstance(tree.body[-1], ast.Assign) and ast.unparse(tree.body[-1].targets[0]) == "CHECKS"


def run(folder, *arguments):
    words = [sys.executable, "-m", "published", "--out", "out", "--device", "cpu", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parent)}
    environment.pop("PUBLISHED_SOURCES", None)
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def gallery(tmp_path):
    """A copy of the runner without kernels."""
    shutil.copytree(GALLERY, tmp_path / "published", ignore=shutil.ignore_patterns("[a-z]*.py", "__pycache__"))
    return tmp_path


def results_in(folder):
    lines = (folder / "out" / "results.jsonl").read_text(encoding="utf-8").splitlines()
    return {result["name"]: result for result in map(json.loads, lines)}


def test_a_kernel_that_is_not_there_is_left_out_with_the_reason(gallery):
    shutil.copy(GALLERY / "scattermoe.py", gallery / "published")
    (gallery / "published" / "absent.py").write_text("import no_such_package\n")
    ran = run(gallery)
    assert ran.returncode == 0, ran.stderr
    table = (gallery / "out" / "table.md").read_text(encoding="utf-8")
    assert "- `absent`: ModuleNotFoundError: No module named 'no_such_package'" in table
    assert "- `scattermoe`: " in table and ("torch" in table or "PUBLISHED_SOURCES" in table)
    assert "expected parts of the names of checks or files, found nothing_of_it" in run(gallery, "nothing_of_it").stderr


def test_verdicts_and_smallest_cases_are_in_the_table(gallery):
    (gallery / "published" / "mine.py").write_text(KERNELS)
    ran = run(gallery, "--cases", "20", "is_")
    assert ran.returncode == 0, ran.stderr
    results = results_in(gallery)
    assert sorted(results) == ["is_right", "is_wrong"]
    assert results["is_right"]["counts"]["agree"] == 20 and results["is_right"]["failures"] == []
    (failure,) = results["is_wrong"]["failures"]
    assert failure["kind"] == "disagree" and "T1-H1-I1-E1-K1" in failure["smallest"]["id"]
    table = (gallery / "out" / "table.md").read_text(encoding="utf-8")
    assert "| is_right | 1.2 | fp32, 1 ≤ T ≤ 8" in table and "| 20 | 20 | 0 | 0 | 0 | agree |" in table
    case = int(failure["case"].removeprefix("seed ")) + 1
    assert f"disagree, case {case}, {failure['seconds']:.0f} s: T1 H1 I1 E1 K1 C" in table and ", found " in table


def test_a_check_ends_after_its_time_and_other_results_stay(gallery):
    (gallery / "published" / "mine.py").write_text(KERNELS)
    assert run(gallery, "--cases", "5", "is_right").returncode == 0
    assert results_in(gallery)["is_right"]["counts"]["agree"] == 5
    ran = run(gallery, "--seconds", "3", "hangs")
    assert ran.returncode == 0, ran.stderr
    results = results_in(gallery)
    assert sorted(results) == ["hangs", "is_right"]
    assert "hangs: nothing compared" in ran.stderr and not results["hangs"]["is_complete"]


def test_the_name_of_a_file_asks_for_all_its_checks(gallery):
    kernels = KERNELS.replace("(is_right, is_wrong, hangs)", "(is_right, is_wrong)")
    (gallery / "published" / "mine.py").write_text(kernels)
    ran = run(gallery, "--cases", "5", "mine")
    assert ran.returncode == 0, ran.stderr
    assert sorted(results_in(gallery)) == ["is_right", "is_wrong"]
