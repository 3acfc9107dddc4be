"""The table of a run, as markdown."""

COLUMNS = (
    "kernel",
    "version",
    "domain",
    "cases",
    "agree",
    "disagree",
    "fault",
    "declined",
    "verdict",
    "found after",
    "smallest case of each kind of failure",
)


def table(results, missing):
    rows = [row(result) for result in results]
    left_out = [f"- `{one['module']}`: {one['reason']}" for one in missing]
    head = [line(COLUMNS), line(["---"] * len(COLUMNS))]
    machines = dict.fromkeys(result["machine"] for result in results)
    return "\n".join([*machines, "", *head, *rows, *(["", "Not run:", "", *left_out] if left_out else [])])


def row(result):
    if "counts" not in result:
        return line([result["name"], *[""] * (len(COLUMNS) - 3), verdict(result), ""])
    counts = result["counts"]
    return line(
        [
            result["name"],
            result["version"],
            result["domain"],
            result["cases"],
            *(counts[name] for name in ("agree", "disagree", "fault", "declined")),
            verdict(result),
            found_after(result["failures"]),
            "<br>".join(map(smallest, result["failures"])),
        ]
    )


def verdict(result):
    if "counts" not in result:
        return result["report"]
    counts = result["counts"]
    if counts["disagree"] or counts["fault"]:
        return " and ".join(kind for kind in ("disagree", "fault") if counts[kind])
    if result["is_complete"]:
        return "agree" if result["agrees"] else result["report"].splitlines()[-1]
    return "agree so far" if counts["agree"] else "nothing compared"


def found_after(failures):
    """How many cases and seconds it took until the first failure was seen."""
    if not failures:
        return ""
    first = min(failures, key=lambda failure: failure["seconds"])
    return f"{number(first) + 1}; {first['seconds']:.0f} s"


def number(failure):
    """The number of a case, from its name: seeds begin at 0."""
    return int(failure["case"].rpartition(" ")[2])


def smallest(failure):
    found = failure["smallest"]
    return f"{failure['kind']}: {found['id'] if found else 'no case'} (case {number(failure) + 1})"


def line(cells):
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
