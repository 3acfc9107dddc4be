"""Checks published kernels inside their domains, and writes a table, and a line of JSON for each check.

    cd python/examples
    python -m published --sources CLONES --out FOLDER [NAME…]

A kernel that cannot be imported, because its package or its clone is missing, is left out with the reason. Each check
runs in a process of its own, and its function in a further one, so that neither a hang nor a lost GPU ends the others.
After --seconds a check ends with the cases so far. NAME is a part of the name of each check or file that runs; the
table keeps the results of others that lie in the folder.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from . import _checks, _processes, _table

RESULTS = "results.jsonl"


def main():
    arguments = parsed()
    for folder, name in ((arguments.sources, "PUBLISHED_SOURCES"), (arguments.builds, "PUBLISHED_BUILD")):
        if folder is not None:
            os.environ[name] = str(folder.absolute())
    # Each check has its own processes: more threads would take cores from the others.
    for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        found = list(pool.map(_processes.listed, _checks.modules()))
        missing = [one for one in found if "reason" in one and is_named(arguments.names, one["module"])]
        planned = [
            (one["module"], name)
            for one in found
            for name in one.get("checks", ())
            if is_named(arguments.names, one["module"], name)
        ]
        if not planned and not missing:
            sys.exit(f"NAME: expected parts of the names of checks or files, found {', '.join(arguments.names)}")
        place = {"machine": machine(arguments)}
        results = list(pool.map(lambda check: told(place | _processes.run(*check, arguments)), planned))
    ran = [name for _, name in planned]
    kept = [result for result in earlier(arguments.out) if result["name"] not in ran]
    write(arguments.out, sorted(kept + results, key=lambda result: result["name"].lower()), missing)


def parsed():
    parser = argparse.ArgumentParser(
        "python -m published", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, type=pathlib.Path, help="where the table is written")
    parser.add_argument("--sources", type=pathlib.Path, help="a folder with a clone or wheel of each project")
    parser.add_argument("--builds", type=pathlib.Path, help="where what is compiled is kept (a temporary folder)")
    parser.add_argument("--device", default="cuda", help="where the kernels run (cuda)")
    parser.add_argument("--cases", type=int, default=1000, help="the most cases of a check (1000)")
    parser.add_argument("--seconds", type=float, default=240, help="the most time of a check (240)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many checks run side by side")
    parser.add_argument("names", nargs="*", metavar="NAME")
    return parser.parse_args()


def is_named(names, *texts):
    return any(part in text for part in names or [""] for text in texts)


def told(result):
    print(f"{result['name']}: {_table.verdict(result)}", file=sys.stderr, flush=True)
    return result


def earlier(out):
    """The results of a run before."""
    path = out / RESULTS
    return list(map(json.loads, path.read_text(encoding="utf-8").splitlines())) if path.exists() else []


def write(out, results, missing):
    lines = "".join(json.dumps(result, ensure_ascii=False) + "\n" for result in results)
    (out / RESULTS).write_text(lines, encoding="utf-8")
    (out / "table.md").write_text(_table.table(results, missing), encoding="utf-8")


def machine(arguments):
    """What the checks ran on."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    device = platform.machine()
    if arguments.device != "cpu":
        device = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    return f"{device}; {arguments.jobs} checks side by side, at most {arguments.seconds:g} s each"


if __name__ == "__main__":
    main()
