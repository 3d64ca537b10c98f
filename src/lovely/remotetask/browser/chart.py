"""Charts, drawn by the server: SVG without script and without style of its own."""
import html

from lovely.remotetask import lifecycle

WIDTH, HEIGHT = 600, 100
SHOWN = (lifecycle.COMPLETED, lifecycle.ERROR, lifecycle.CANCELLED)


def ended_chart(bars, title, describe) -> str:
    """Stacked bars of how many jobs ended how.  describe(bar): text for the mouse."""
    most = max((sum(bar.ended.values()) for bar in bars), default=0) or 1
    width = WIDTH / max(1, len(bars))
    parts = []
    for number, bar in enumerate(bars):
        bottom = float(HEIGHT)
        rects = []
        for status in SHOWN:
            height = bar.ended[status] / most * (HEIGHT - 2)
            if height:
                height = max(height, 1.0)
                bottom -= height
                rects.append(_rect(number * width, max(0.0, bottom), width * .82, height,
                                   f"c-{status}"))
        if rects:
            parts.append(f"<g><title>{html.escape(describe(bar))}</title>"
                         f"{''.join(rects)}</g>")
    return _svg(title, parts)


def waits_chart(bars, title, describe) -> str:
    """A line of mean waiting times, with the longest as thin bars."""
    most = max((wait for bar in bars for wait in bar.waited), default=0) or 1
    width = WIDTH / max(1, len(bars))
    parts, points = [], []
    for number, bar in enumerate(bars):
        if not bar.waited:
            continue
        mean = sum(bar.waited) / len(bar.waited)
        longest = max(bar.waited) / most * (HEIGHT - 4)
        left = number * width
        parts.append(
            f"<g><title>{html.escape(describe(bar))}</title>"
            + _rect(left, HEIGHT - max(longest, 1), width * .82, max(longest, 1), "c-longest")
            + "</g>")
        points.append(f"{left + width * .41:.1f},"
                      f"{HEIGHT - 1 - mean / most * (HEIGHT - 5):.1f}")
    if len(points) > 1:
        parts.append(f'<polyline class="c-mean" points="{" ".join(points)}"></polyline>')
    return _svg(title, parts)


def _rect(left, top, width, height, name) -> str:
    return (f'<rect class="{name}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}"></rect>')


def _svg(title, parts) -> str:
    lines = "".join(f'<line class="c-grid" x1="0" x2="{WIDTH}" y1="{y}" y2="{y}"></line>'
                    for y in (1, HEIGHT / 2, HEIGHT - 1))
    return (f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'preserveAspectRatio="none" aria-label="{html.escape(title)}">'
            f"{lines}{''.join(parts)}</svg>")
