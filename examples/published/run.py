"""Checks each published kernel inside its domain and writes a table.

    python3 examples/published/run.py --binary target/release/binned-experts --sources FOLDER --out FOLDER [NAME…]

A kernel that does not start, because its package or its clone is missing, is left out with the reason. NAME is a part
of the commands that run; without one all of them do. The table has the results that lie in the folder already, too.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))
# Triton compiles for each H, I, E and K.
FEW = ["--shapes", "12"]
# XLA compiles for each T, too.
FIXED = ["T=48,H=64,I=64,E=8,K=2", "T=7,H=33,I=65,E=3,K=2", "T=129,H=16,I=48,E=32,K=4", "T=1,H=8,I=8,E=2,K=1"]
KERNELS = {
    "transformers_grouped_mm.py": [],
    "torchtitan.py": [],
    "fbgemm.py": FEW,
    "candle.py bf16": [],
    "candle.py bf16 decode": [],
    "candle.py f16": [],
    "sglang.py bf16": FEW,
    "sglang.py f32": FEW,
    "yamoe.py bf16": [],
    "yamoe.py fp32": [],
    "jax_ragged_dot.py fp32": [*(word for shape in FIXED for word in ("--shape", shape)), "--shrink-budget", "60"],
}
RESULTS = "results.jsonl"
LIMITS = ["--start-limit", "300", "--time-limit", "120"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="binned-experts")
    parser.add_argument("--sources", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--cases", default="1000")
    parser.add_argument("--jobs", default=str(os.cpu_count()))
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    os.environ |= {"PUBLISHED_SOURCES": os.path.abspath(arguments.sources), "OMP_NUM_THREADS": "1"}
    os.makedirs(arguments.out, exist_ok=True)
    wanted = [name for name in KERNELS if not arguments.names or any(part in name for part in arguments.names)]
    with ThreadPoolExecutor() as pool:
        answers = dict(zip(wanted, pool.map(described, wanted)))
    results = earlier(arguments.out, wanted)
    for name in wanted:
        if "domain" in answers[name]:
            results.append(check(name, answers[name]["domain"], arguments))
            write(results, answers, arguments)
    write(results, answers, arguments)


def earlier(out, wanted):
    path = os.path.join(out, RESULTS)
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [result for result in map(json.loads, file) if result["name"] not in wanted]


def described(name):
    """What a kernel says of itself, or the reason why it does not start. What it compiles is compiled then."""
    question = json.dumps({"describe": True}) + "\n"
    try:
        found = subprocess.run(command(name), input=question, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        return {"reason": "no answer in 300 s"}
    if found.returncode == 0:
        return json.loads(found.stdout)
    return {"reason": (found.stderr.strip().splitlines() or [f"exit status {found.returncode}"])[-1]}


def command(name):
    file, *words = name.split()
    return [sys.executable, os.path.join(HERE, file), *words]


def check(name, domain, arguments):
    saved = os.path.join(arguments.out, "failing")
    shutil.rmtree(saved, ignore_errors=True)
    options = [*KERNELS[name], *LIMITS, "--cases", arguments.cases, "--jobs", arguments.jobs]
    words = [arguments.binary, "check", "--command", shlex.join(command(name)), *options]
    found = subprocess.run([*words, "--save", saved, "--format", "json"], stdout=subprocess.PIPE, text=True)
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    put(arguments.out, "lines.json", found.stdout)
    lines_file = os.path.join(arguments.out, "lines.json")
    report = subprocess.run([arguments.binary, "report", lines_file], capture_output=True, text=True).stdout
    os.remove(lines_file)
    files = keep(saved, arguments.out)
    totals = lines[-1] if lines and lines[-1]["type"] == "totals" else None
    failures = [line for line in lines if line.get("shrunk")]
    print(f"{name}: {(report.strip().splitlines() or ['no report'])[-1]}", file=sys.stderr, flush=True)
    shown = shlex.join(["binned-experts", "check", "--command", f"python3 examples/published/{name}", *options])
    return {
        "name": name,
        "domain": domain,
        "machine": machine(arguments),
        "command": shown,
        "status": found.returncode,
        "totals": totals,
        "shrunk": [failure | {"file": files.get(failure["case"])} for failure in failures],
        "report": report,
    }


def keep(saved, out):
    """The smallest case of each kind of failure, out of the folder of the run."""
    files = {}
    for folder, _, names in os.walk(saved):
        for name in names:
            if name.endswith("-shrunk.toml"):
                shutil.copy(os.path.join(folder, name), os.path.join(out, name))
                files["seed " + re.search(r"seed-(\d+)", name)[1]] = name
    shutil.rmtree(saved, ignore_errors=True)
    return files


def write(results, answers, arguments):
    results = sorted(results, key=lambda result: list(KERNELS).index(result["name"]))
    rows = [row(result) for result in results]
    missing = [f"- `{name}` did not run: {answer['reason']}" for name, answer in answers.items() if "reason" in answer]
    machines = dict.fromkeys(result["machine"] for result in results)
    names = ["kernel", "domain", "device", "cases", "judged", "declined", "wrong", "fault", "verdict", "seconds"]
    names.append("smallest case of each kind of failure")
    commands = ["```sh", *(result["command"] for result in results), "```"]
    head = [*(f"- {machine}" for machine in machines), "", line_of(names), line_of(["---"] * len(names))]
    table = [*head, *rows, "", *commands, "", *missing]
    put(arguments.out, "table.md", "\n".join(table).strip() + "\n")
    put(arguments.out, RESULTS, "".join(json.dumps(result) + "\n" for result in results))
    put(arguments.out, "reports.txt", "\n\n".join(f"$ {result['command']}\n\n{result['report']}" for result in results))


def put(out, name, text):
    with open(os.path.join(out, name), "w", encoding="utf-8") as file:
        file.write(text)


def machine(arguments):
    """What it runs on, the device first."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    versions = "import torch, triton; print('torch', torch.__version__ + ', triton', triton.__version__)"
    texts = []
    for words in (query, [arguments.binary, "--version"], [sys.executable, "-c", versions]):
        try:
            texts.append(subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip())
        except (OSError, subprocess.CalledProcessError):
            texts.append(f"no {words[0]}")
    return "; ".join([*texts, f"{arguments.jobs} programs side by side"])


def row(result):
    totals = result["totals"]
    if totals is None or not totals["totals"]:
        return line_of([result["name"], "", "", 0, "", "", "", "", f"no result, status {result['status']}", "", ""])
    engine = totals["totals"][0]
    judged = engine["agree"] + engine["disagree"] + engine["fault"]
    where = re.search(r"^drawn where (.*)$", result["report"], re.MULTILINE)
    precisions = ", ".join(result["domain"]["precision"])
    cells = [
        engine["engine"],
        f"{precisions}; {where[1] if where else 'any case'}",
        result["machine"].partition(",")[0],
        totals["cases"],
        judged,
        engine["declined"],
        engine["disagree"],
        engine["fault"],
        {0: "AGREE", 1: "DISAGREE"}.get(result["status"], f"status {result['status']}"),
        f"{totals['seconds']['elapsed']:.1f}",
        "<br>".join(kinds(result)) or "–",
    ]
    return line_of(cells)


def line_of(cells):
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def kinds(result):
    """A line for each kind of failure."""
    for kind in result["totals"]["kinds"]:
        line = next((line for line in result["shrunk"] if line["kind"] == kind["text"]), None)
        text = f"{kind['cases']} × {kind['text']}"
        if line is not None:
            spec, detail = line["shrunk"]["spec"], line["shrunk"]["detail"] or ""
            sizes = {"T": spec["batch"] * spec["sequence"], "H": spec["hidden"], "I": spec["intermediate"]}
            sizes |= {"E": spec["experts"], "K": spec["top_k"], "C": spec["capacity"]}
            values = re.findall(r"^ *(found|expected) +(\S+)$", detail, re.MULTILINE)
            text += ": " + " ".join(f"{axis}={size}" for axis, size in sizes.items())
            text += "".join(f", {word} {value}" for word, value in values)
            text += f" ([case]({line['file']}))" if line["file"] else ""
        yield text


if __name__ == "__main__":
    main()
