"""Milliseconds of each workload on a logarithmic axis, as SVG."""

import math

from report import error_text, number
from svg import line, rectangle, svg, text

HEIGHT = 620
LEFT, RIGHT, BOTTOM = 64, 16, 40
BAR, GAP = 14, 28
LEAST_GROUP, LEAST_WIDTH = 110, 960
LEGEND_LINE, LEGEND_COLUMN = 20, 260
# Room above the tallest bar for its label.
LABEL = 110
OURS = "#1b7837"
COLOURS = ("#4e79a7", "#f28e2b", "#b07aa1", "#76b7b2", "#9c755f", "#edc948", "#e15759", "#bab0ac")
FLOOR = "#c00000"


def chart(environment, rows, ours, title):
    """The chart's text: per workload our bars, the peers' (TF32 ones pale) and the floor as a line. The label of a bar
    is its time in a burst and its relative error."""
    layers = [row for row in rows if "shape" not in row]
    workloads = list(dict.fromkeys(row["workload"] for row in layers))
    timed = [row for row in ours + layers if row.get("burst_ms") and row["workload"] in workloads]
    if not timed:
        return svg(400, 60, [text(12, 32, "nothing was timed", 14)])
    floors = {row["workload"]: row["burst_ms"] for row in timed if row["peer"] == "floor"}
    bars = [row for row in timed if row["peer"] != "floor"]
    fills = _fills(bars)
    groups = [[row for row in _sorted(bars) if row["workload"] == name] for name in workloads]

    widths = [max(len(group) * BAR, LEAST_GROUP) for group in groups]
    width = max(LEFT + RIGHT + sum(widths) + GAP * len(groups), LEAST_WIDTH)
    columns = (width - LEFT) // LEGEND_COLUMN
    entries = len(fills) + 1
    top = 40 + LEGEND_LINE * math.ceil(entries / columns) + LABEL
    axis = Axis([row["burst_ms"] for row in timed], top, HEIGHT - BOTTOM)

    heading = f"{title}: ms in bursts · relative error. Pale: TF32. {environment['device']}, {environment['date']}"
    parts = [text(LEFT, 24, heading, 15)]
    parts += _legend(fills, columns)
    parts += axis.draw(width)
    x = LEFT + GAP / 2
    for name, group, room in zip(workloads, groups, widths):
        parts += _group(axis, x, room, name, group, fills, floors.get(name))
        x += room + GAP
    return svg(width, HEIGHT, parts)


class Axis:
    """From milliseconds to heights."""

    def __init__(self, times, top, bottom):
        self.low = _step_below(min(times) / 1.2)
        self.high = max(times)
        self.top, self.bottom = top, bottom

    def y(self, time):
        share = math.log(time / self.low) / math.log(self.high / self.low)
        return self.bottom - share * (self.bottom - self.top)

    def draw(self, width):
        """Lines at 1, 2 and 5 times the powers of ten."""
        parts = []
        for exponent in range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1):
            for step in (1, 2, 5):
                tick = step * 10.0**exponent
                if self.low * 0.999 <= tick <= self.high * 1.001:
                    y = self.y(tick)
                    parts.append(line(LEFT, y, width - RIGHT, y, "#dddddd", 1))
                    parts.append(text(LEFT - 6, y + 4, f"{tick:g}", 12, anchor="end"))
        return parts


def _step_below(time):
    """The largest of 1, 2 and 5 times a power of ten that is not above a time."""
    power = 10.0 ** math.floor(math.log10(time))
    return max(step * power for step in (1, 2, 5) if step * power <= time * (1 + 1e-9))


def _sorted(bars):
    """Ours first, then fp32 before TF32, each in order of appearance."""
    return sorted(bars, key=lambda row: (row["class"] != "fp32", row.get("source") != "ours"))


def _fills(bars):
    """Colour of each (peer, class), ours in green and TF32 pale."""
    fills, colours = {}, {}
    for row in _sorted(bars):
        peer = row["peer"]
        is_ours = row.get("source") == "ours"
        if peer not in colours:
            used = sum(colour != OURS for colour in colours.values())
            colours[peer] = OURS if is_ours else COLOURS[used % len(COLOURS)]
        fills[peer, row["class"]] = (colours[peer], 1.0 if row["class"] == "fp32" else 0.5)
    return fills


def _legend(fills, columns):
    parts = []
    entries = [(f"{peer}, {name}", fill) for (peer, name), fill in fills.items()] + [("floor", None)]
    for i, (name, fill) in enumerate(entries):
        x, y = LEFT + i % columns * LEGEND_COLUMN, 44 + i // columns * LEGEND_LINE
        if fill is None:
            parts.append(line(x, y + 5, x + 16, y + 5, FLOOR, 2))
        else:
            parts.append(rectangle(x, y, 16, 11, fill))
        parts.append(text(x + 22, y + 10, name, 13))
    return parts


def _group(axis, left, width, name, group, fills, floor):
    parts = []
    first = left + (width - len(group) * BAR) / 2
    for i, row in enumerate(group):
        x, y = first + i * BAR, axis.y(row["burst_ms"])
        parts.append(rectangle(x + 1, y, BAR - 2, axis.bottom - y, fills[row["peer"], row["class"]]))
        label = f"{number(row['burst_ms'])} · {error_text(row['relative_error'])}"
        parts.append(text(x + BAR / 2 + 4, y - 4, label, 10, turn=True))
    if floor is not None:
        parts.append(line(left - 4, axis.y(floor), left + width + 4, axis.y(floor), FLOOR, 2))
    parts.append(text(left + width / 2, axis.bottom + 20, name, 13, anchor="middle"))
    return parts
