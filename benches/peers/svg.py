"""The parts of a chart, as SVG."""

from html import escape


def svg(width, height, parts):
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" font-family="sans-serif">'
    )
    return "\n".join([head, f'<rect width="{width:g}" height="{height:g}" fill="white"/>'] + parts + ["</svg>\n"])


def text(x, y, said, size, anchor="start", turn=False):
    turned = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turn else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"{turned}>{escape(said)}</text>'


def line(x1, y1, x2, y2, colour, width):
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{colour}" stroke-width="{width}"/>'
    )


def rectangle(x, y, width, height, fill):
    colour, opacity = fill
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'fill="{colour}" fill-opacity="{opacity}"/>'
    )
