"""What a benchmark prints and returns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

NAMES = ("workload", "p50 ms", "p10", "p90", "first ms", "floor", "rows", "bound", "")
WIDTHS = (17, 11, 11, 11, 11, 6, 5, 6, 0)


@dataclass(frozen=True)
class Benchmark:
    """The records of a benchmark. ``str`` is the table that was printed."""

    title: str
    records: list[dict[str, Any]]

    @property
    def ok(self) -> bool:
        """Whether there is a record, and every one is without a finding."""
        return bool(self.records) and all(record["ok"] for record in self.records)

    @property
    def findings(self) -> list[dict[str, str]]:
        """All findings: ``workload``, ``kind`` and ``message``."""
        return [
            {"workload": record["wl"]["name"], **finding}
            for record in self.records
            for finding in record["referee"]["findings"]
        ]

    def to_jsonl(self) -> str:
        """The records, a line each."""
        return "".join(json.dumps(record) + "\n" for record in self.records)

    def conclusion(self) -> str:
        """The findings in full, and how many workloads are right."""
        right = sum(record["ok"] for record in self.records)
        findings = [f"{found['workload']}: {found['kind']}: {found['message']}" for found in self.findings]
        return "\n".join([*findings, f"{right} of {len(self.records)} workloads are right and within the rules"])

    def assert_ok(self) -> None:
        """Raises ``AssertionError`` with the table unless all is right."""
        if not self.ok:
            raise AssertionError(str(self))

    def __str__(self) -> str:
        return "\n".join([self.title, *map(line, self.records), self.conclusion()])


def head(run, precision, workloads):
    """What is run, and the names of the columns."""
    gpu = run["env"]["gpu"] if run["device"].startswith("cuda") else ""
    place = f"{run['device']} ({gpu})" if gpu else run["device"]
    what = f"{run['impl']} on {place}, {run['dtype']} judged as {precision}, {workloads} workloads, seed {run['seed']}"
    return f"{what}\n{columns(NAMES)}"


def line(record):
    """The row of a record."""
    referee, times = record["referee"], record["lat_ms"]
    name, rows = record["wl"]["name"], str(referee["rows"])
    if times is None:
        return columns((name, *["–"] * 5, rows, "–", referee["findings"][0]["kind"]))
    share = referee["floor"]["share"]
    return columns(
        (
            name,
            *(f"{times[quantile]:.3f}" for quantile in ("p50", "p10", "p90")),
            f"{record['compile_ms']:.3f}",
            "–" if share is None else f"{100 * share:.0f}%",
            rows,
            f"{referee['bound_used']:.3f}",
            "unsteady" if times["has_warnings"] else "",
        )
    )


def columns(cells):
    first, *others = (cell.rjust(width) for cell, width in zip(cells, WIDTHS))
    return "  ".join([first.strip().ljust(WIDTHS[0]), *others]).rstrip()
