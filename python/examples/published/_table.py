"""The table of a run, as markdown."""

import re

COUNTS = ("agree", "disagree", "fault", "declined")
FAILURES = "first of each kind of failure, and its smallest case"
COLUMNS = ("kernel", "version", "domain", "cases", *COUNTS, "verdict", FAILURES)


def table(results, missing):
    machines = dict.fromkeys(result["machine"] for result in results)
    lines = [*machines, "", line(COLUMNS), line(["---"] * len(COLUMNS)), *map(row, results)]
    if missing:
        lines += ["", "Not run:", "", *(f"- `{one['module']}`: {one['reason']}" for one in missing)]
    return "\n".join(lines) + "\n"


def row(result):
    if "counts" not in result:
        return line([result["name"], *[""] * (len(COLUMNS) - 3), verdict(result), ""])
    counts = (result["counts"][name] for name in COUNTS)
    failures = "<br>".join(map(found, result["failures"]))
    return line(
        [result["name"], result["version"], result["domain"], result["cases"], *counts, verdict(result), failures]
    )


def verdict(result):
    if "counts" not in result:
        return result["report"]
    counts = result["counts"]
    if counts["disagree"] or counts["fault"]:
        return " and ".join(kind for kind in ("disagree", "fault") if counts[kind])
    if not result["is_complete"]:
        return "agree so far" if counts["agree"] else "nothing compared"
    # What else keeps a run from agreeing stands in the last line of its report.
    return "agree" if result["agrees"] else result["report"].splitlines()[-1]


def found(failure):
    """What failed, after how many cases and seconds it was seen, and the smallest case with what it shows."""
    case, smallest = int(failure["case"].rpartition(" ")[2]) + 1, failure["smallest"]
    sizes = " ".join(re.findall(r"[THIEKC]\d+", smallest["id"])) if smallest else "no case"
    return f"{failure['kind']}, case {case}, {failure['seconds']:.0f} s: {sizes}{shown(failure, smallest)}"


def shown(failure, smallest):
    text = failure["text"].rpartition("smallest case found")[2]
    values = re.findall(r"^ *(found|expected) +(\S+)$", text, re.MULTILINE)
    if not values:
        message = re.search(r"(refused|the program ended[^:]*): (.*)$", text, re.MULTILINE)
        return f", {message[2]}" if message else ""
    special = re.search(r'^special = "(.*)"$', smallest["text"], re.MULTILINE)
    return "".join(f", {word} {value}" for word, value in values) + (f" ({special[1]})" if special else "")


def line(cells):
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
