"""Charts, drawn by the server: SVG without script and without style of its own."""
import html
from collections.abc import Callable
from typing import Any, NamedTuple

from lovely.remotetask import lifecycle

WIDTH, HEIGHT = 600, 100
SHOWN = (lifecycle.COMPLETED, lifecycle.ERROR, lifecycle.CANCELLED)
PART = 0.82   # of the width of a step that its bar fills


class Step(NamedTuple):
    """What was done in a minute or an hour."""

    moment: Any             # aware datetime
    ended: dict[str, int]   # {status: number of attempts}
    attempts: int
    waited: float           # seconds, in all


def steps_of(statistics, task: str = "") -> list[Step]:
    """The steps that a service tells of, of one task or of all."""
    found = []
    for each in statistics:
        rows = [figures for name, figures in each["tasks"].items()
                if not task or name == task]
        ended = {status: sum(row[status] for row in rows) for status in SHOWN}
        found.append(Step(
            each["moment"], ended, sum(ended.values()) + sum(row["retried"] for row in rows),
            sum(row["waited"] for row in rows)))
    return found


def ended_chart(steps, title: str, describe: Callable[[Step], str]) -> str:
    """Stacked bars of how many ended how.  describe(step): text for the mouse."""
    most = max((sum(step.ended.values()) for step in steps), default=0) or 1
    width = WIDTH / max(1, len(steps))
    parts = []
    for number, step in enumerate(steps):
        bottom, rects = float(HEIGHT), []
        for status in SHOWN:
            if step.ended[status]:
                height = max(1.5, step.ended[status] / most * (HEIGHT - 2))
                bottom -= height
                rects.append(_rect(number * width, max(0.0, bottom), width * PART,
                                   height, f"c-{status}"))
        if rects:
            parts.append(f"<g><title>{html.escape(describe(step))}</title>"
                         f"{''.join(rects)}</g>")
    return _svg(title, parts)


def waits_chart(steps, title: str, describe: Callable[[Step], str]) -> str:
    """A line of mean waiting times above bars of the same."""
    means = [step.waited / step.attempts if step.attempts else None for step in steps]
    most = max((mean for mean in means if mean is not None), default=0) or 1
    width = WIDTH / max(1, len(steps))
    parts: list[str] = []
    points: list[str] = []
    for number, (step, mean) in enumerate(zip(steps, means)):
        if mean is None:
            _line(parts, points)
        else:
            height = max(1.5, mean / most * (HEIGHT - 4))
            parts.append(f"<g><title>{html.escape(describe(step))}</title>" + _rect(
                number * width, HEIGHT - height, width * PART, height, "c-wait") + "</g>")
            points.append(f"{(number + PART / 2) * width:.1f},{HEIGHT - height:.1f}")
    _line(parts, points)
    return _svg(title, parts)


def _line(parts: list[str], points: list[str]) -> None:
    """End a line: nothing is known where nothing ran."""
    if len(points) > 1:
        parts.append(f'<polyline class="c-mean" points="{" ".join(points)}"></polyline>')
    points.clear()


def _rect(left, top, width, height, name) -> str:
    return (f'<rect class="{name}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}"></rect>')


def _svg(title, parts) -> str:
    lines = "".join(f'<line class="c-grid" x1="0" x2="{WIDTH}" y1="{y}" y2="{y}"></line>'
                    for y in (1, HEIGHT / 2, HEIGHT - 1))
    return (f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'preserveAspectRatio="none" aria-label="{html.escape(title)}">'
            f"{lines}{''.join(parts)}</svg>")
