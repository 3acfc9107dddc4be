"""What a run leaves behind: threads, processes, memory, time."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
from kernels import SMALL, right

import binned_experts
from binned_experts import check

# Ends itself as a person does, while a check runs.
INTERRUPTED = """
import os, signal, sys, threading, time
sys.path[:0] = {path!r}
import isolated, kernels
from binned_experts import check
threading.Timer(1.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
report = check(isolated.sleeps, precision="fp32", arrays="numpy", cases=10**6, isolate={isolate}, domain=kernels.SMALL)
print(report.interrupted, report.agrees, 0 < report.cases < 1000, "INTERRUPTED after" in str(report))
for _ in range(100):
    if len(os.listdir("/proc/self/task")) == 1:
        break
    time.sleep(0.05)
print(len(os.listdir("/proc/self/task")), open(f"/proc/{{os.getpid()}}/task/{{os.getpid()}}/children").read().split())
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="counts threads in /proc")
@pytest.mark.parametrize("isolate", [False, True])
def test_ctrl_c_gives_the_report_and_leaves_no_thread_or_process(isolate):
    path = [str(pathlib.Path(__file__).parent)]
    code = INTERRUPTED.format(path=path, isolate=isolate)
    # numpy's own threads would be counted too.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert run.stdout.splitlines() == ["True False True True", "1 []"], run.stderr


def test_ctrl_c_inside_a_function_ends_the_run():
    calls = []

    def kernel(**arguments):
        calls.append(1)
        if len(calls) == 10:
            signal.raise_signal(signal.SIGINT)
        return right(**arguments)

    report = check(kernel, precision="fp32", arrays="numpy", domain=SMALL)
    assert report.interrupted and len(calls) == 10 and report.cases < 10


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads /proc")
def test_memory_stays_flat_over_5000_cases():
    def resident():
        return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def run(cases):
        check(right, precision="fp32", arrays="numpy", domain=SMALL, cases=cases).assert_agrees()
        return resident()

    first = run(1000)
    last = run(5000)
    print(f"{first:.1f} MiB after 1,000 cases, {last:.1f} MiB after 5,000 more")
    assert last - first < 16


def test_a_case_costs_little_more_than_its_call():
    inside = []

    def kernel(**arguments):
        start = time.perf_counter()
        output = right(**arguments)
        inside.append(time.perf_counter() - start)
        return output

    start = time.perf_counter()
    check(kernel, precision="fp32", arrays="numpy", domain=SMALL, cases=1000).assert_agrees()
    beside = (time.perf_counter() - start - sum(inside)) / 1000
    print(f"{beside * 1e3:.2f} ms a case beside {sum(inside):.2f} ms in the function, oracle included")
    assert beside < 0.02


def test_the_command_is_in_the_package():
    def run(*arguments):
        command = [sys.executable, "-m", "binned_experts", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert re.match(r"binned-experts \d+\.\d+\.\d+", run("--version").stdout)
    assert "cuda-portable" in run("engines").stdout
    assert run("check", "--engine", "reference", "--cases", "20").returncode == 0
    refused = run("check", "--engine", "nothing")
    assert refused.returncode == 2 and "expected one of reference" in refused.stderr
    assert run("check", "--no-such-option").returncode == 2


def test_the_package_has_what_it_names():
    assert all(hasattr(binned_experts, name) for name in binned_experts.__all__)
    assert pathlib.Path(binned_experts.__file__).with_name("py.typed").exists()
