"""Runs the checks of the gallery, each in a process of its own."""

import json
import pathlib
import signal
import subprocess
import sys
import tempfile

# What an import may take that compiles a kernel, and what a check may take from its end to its report.
LONGEST_IMPORT = 300
LONGEST_END = 60


def listed(module):
    """The checks of a file by name; or the reason why it cannot be imported."""
    program = f"import json; from published import _checks; print(json.dumps(list(_checks.checks_of({module!r}))))"
    try:
        ran = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=LONGEST_IMPORT
        )
    except subprocess.TimeoutExpired:
        return {"module": module, "reason": f"no import in {LONGEST_IMPORT} s"}
    if ran.returncode == 0:
        return {"module": module, "checks": json.loads(ran.stdout.splitlines()[-1])}
    return {"module": module, "reason": (ran.stderr.strip().splitlines() or [f"exit status {ran.returncode}"])[-1]}


def run(module, name, arguments):
    """The result of a check. After the time that it has, it is interrupted: its report is that of the cases so far."""
    with tempfile.TemporaryDirectory(prefix="published-") as folder:
        answer, errors = pathlib.Path(folder, "result.json"), pathlib.Path(folder, "errors")
        words = [module, name, arguments.device, str(arguments.cases), str(answer)]
        with open(errors, "w", encoding="utf-8") as file:
            process = subprocess.Popen([sys.executable, "-m", "published._one", *words], stdout=file, stderr=file)
            try:
                process.wait(arguments.seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
            try:
                process.wait(LONGEST_END)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if answer.exists():
            return json.loads(answer.read_text(encoding="utf-8"))
        last = (errors.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["nothing"])[-1]
    return {"name": name, "module": module, "report": f"no report; exit status {process.returncode}, last {last}"}
