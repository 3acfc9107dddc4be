"""Milliseconds over what a sweep varies, a curve for each peer, as SVG."""

import math

import chart
from chart import COLOURS, FLOOR, OURS, Axis
from svg import line, svg, text

WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BOTTOM = chart.LEFT, 190, 40, 48
# What is varied is named at so many points.
MOST_NAMED = 10


def curves(title, variable, series, floor):
    """The chart's text. `series` has for each name (x, ms) pairs; `floor` such pairs too. x is logarithmic where all of
    it is above 0."""
    points = [point for pairs in [*series.values(), floor] for point in pairs]
    if not points:
        return svg(400, 60, [text(12, 32, "nothing was timed", 14)])
    xs = sorted({x for x, _ in points})
    place = math.log if xs[0] > 0 else float
    span = (place(xs[-1]) - place(xs[0])) or 1.0
    axis = Axis([ms for _, ms in points], TOP, HEIGHT - BOTTOM)

    def across(x):
        return LEFT + (place(x) - place(xs[0])) / span * (WIDTH - LEFT - RIGHT)

    parts = [text(LEFT, 22, f"{title}: milliseconds over {variable}", 15)]
    parts += axis.draw(WIDTH - RIGHT + chart.RIGHT)
    named = xs[:: math.ceil(len(xs) / MOST_NAMED)]
    parts += [text(across(x), HEIGHT - BOTTOM + 18, f"{x:g}", 11, anchor="middle") for x in named]
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(list(series)[1:])}
    drawn = [(name, pairs, OURS if i == 0 else colours[name], 2) for i, (name, pairs) in enumerate(series.items())]
    for i, (name, pairs, colour, thick) in enumerate([*drawn, ("floor", floor, FLOOR, 1)]):
        for (x1, y1), (x2, y2) in zip(pairs, pairs[1:]):
            parts.append(line(across(x1), axis.y(y1), across(x2), axis.y(y2), colour, thick))
        y = TOP + 18 * i
        parts.append(line(WIDTH - RIGHT + 12, y, WIDTH - RIGHT + 32, y, colour, thick))
        parts.append(text(WIDTH - RIGHT + 38, y + 4, name, 12))
    return svg(WIDTH, HEIGHT, parts)
