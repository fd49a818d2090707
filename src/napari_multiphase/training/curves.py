"""Curves as inline SVG, with nothing but the standard library."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 520, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 36, 30
MOST_POINTS = 400
SMOOTH_FROM = 60
"""Curves with at least so many points are drawn faint, with a running mean over them."""
FEW = 6
"""More curves than this are drawn thinner."""
LOG_FROM = 100.0
"""A positive quantity that spans more than this factor is drawn on a logarithmic axis."""


@dataclass(frozen=True)
class Curve:
    """One line of a chart: points (step, value), an sRGB colour in CSS form."""

    name: str
    points: Points
    colour: str
    dashed: bool = False


def chart(
    title: str,
    curves: Sequence[Curve],
    stages: Sequence[tuple[float, str]] = (),
    limits: tuple[float, float] | None = None,
    legend: bool = True,
) -> str:
    """An ``<svg>`` of `curves` over steps.

    Parameters
    ----------
    stages : (last step, name) of each stage, in order; a thin line separates them.
    limits : lowest and highest value of the axis; from the values without it.
    """
    every = [p for curve in curves for p in curve.points if math.isfinite(p[1])]
    frame = _Frame.around(every, limits)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" '
        f'font-size="11" role="img"><title>{escape(title)}</title>',
        f'<text x="{LEFT}" y="16" font-size="13" font-weight="bold" fill="#1d2733">{escape(title)}</text>',
        *frame.grid(),
        *_boundaries(frame, stages),
        *(line for curve in curves for line in _lines(frame, curve, 1.1 if len(curves) > FEW else 1.8)),
        *(_legend(curves) if legend else ()),
        "</svg>",
    ]
    return "".join(parts)


@dataclass(frozen=True)
class _Frame:
    """Where values lie on the picture."""

    steps: tuple[float, float]
    values: tuple[float, float]
    log: bool

    @staticmethod
    def around(points: Points, limits: tuple[float, float] | None) -> _Frame:
        steps = [p[0] for p in points] or [0.0, 1.0]
        values = [p[1] for p in points] or [0.0, 1.0]
        log = limits is None and min(values) > 0 and max(values) > LOG_FROM * min(values)
        low, high = limits or (min(values), max(values))
        if log:
            low, high = math.log10(low), math.log10(high)
        if limits is None:
            slack = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
            low, high = low - slack, high + slack
        last = max(steps)
        return _Frame((min(0.0, min(steps)), last if last > 0 else 1.0), (low, high), log)

    def x(self, step: float) -> float:
        first, last = self.steps
        return LEFT + (WIDTH - LEFT - RIGHT) * (step - first) / (last - first)

    def y(self, value: float) -> float:
        low, high = self.values
        at = math.log10(value) if self.log else value
        share = min(1.0, max(0.0, (at - low) / (high - low)))
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    def grid(self) -> Iterator[str]:
        """Lines and figures of both axes."""
        right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
        for value in self._value_ticks():
            y = self.y(value)
            yield f'<line x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e4e8ee"/>'
            yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#66717f">{_figure(value)}</text>'
        for step in ticks(*self.steps, 5):
            x = self.x(step)
            yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}" stroke="#9aa5b1"/>'
            yield f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle" fill="#66717f">{step:,.0f}</text>'
        yield f'<line x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}" stroke="#9aa5b1"/>'

    def _value_ticks(self) -> list[float]:
        if not self.log:
            return ticks(*self.values, 5)
        low, high = self.values
        return [10.0**n for n in range(math.ceil(low), math.floor(high) + 1)]


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) between `low` and `high`, `about` of them."""
    rough = (high - low) / max(1, about)
    power = 10.0 ** math.floor(math.log10(rough))
    apart = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    first, last = math.ceil(low / apart - 1e-9), math.floor(high / apart + 1e-9)
    return [n * apart for n in range(first, last + 1)]


def _figure(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e") if not 1e-3 <= abs(value) < 1e5 else f"{value:.4g}"


def _boundaries(frame: _Frame, stages: Sequence[tuple[float, str]]) -> Iterator[str]:
    if len(stages) < 2:
        return
    begin = frame.steps[0]
    for last, name in stages:
        x = frame.x(begin)
        if begin > frame.steps[0]:
            yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#b9c2cd"/>'
        if frame.x(last) - x > 7 * len(name):
            yield f'<text x="{x:.1f}" y="{TOP - 4}" font-size="10" fill="#8b96a3">{escape(name)}</text>'
        begin = last


def _lines(frame: _Frame, curve: Curve, width: float) -> Iterator[str]:
    points = thinned(curve.points)
    dash = ' stroke-dasharray="5 3"' if curve.dashed else ""
    style = f'fill="none" stroke="{curve.colour}" stroke-linejoin="round"{dash}'
    many = len(points) >= SMOOTH_FROM
    faint = 'stroke-width="1" opacity="0.3"' if many else f'stroke-width="{width}"'
    yield f'<path d="{_path(frame, points)}" {style} {faint}/>'
    if many:
        yield f'<path d="{_path(frame, smoothed(points))}" {style} stroke-width="{width}"/>'
    if curve.dashed or len(points) < 12:
        for step, value in points:
            if math.isfinite(value):
                tip = f"<title>{escape(curve.name)}: {value:.4g} at step {step:,.0f}</title>"
                at = f'cx="{frame.x(step):.1f}" cy="{frame.y(value):.1f}"'
                yield f'<circle {at} r="{1.3 * width:.1f}" fill="{curve.colour}">{tip}</circle>'


def _path(frame: _Frame, points: Points) -> str:
    """Broken where a value is not finite (or not positive on a logarithmic axis)."""
    out, pen = [], "M"
    for step, value in points:
        if not math.isfinite(value) or (frame.log and value <= 0):
            pen = "M"
            continue
        out.append(f"{pen}{frame.x(step):.1f} {frame.y(value):.1f}")
        pen = "L"
    return "".join(out)


def thinned(points: Points) -> Points:
    """At most `MOST_POINTS` points: means of equally many neighbours."""
    each = math.ceil(len(points) / MOST_POINTS)
    if each <= 1:
        return points
    groups = [points[i : i + each] for i in range(0, len(points), each)]
    return [(sum(p[0] for p in g) / len(g), sum(p[1] for p in g) / len(g)) for g in groups]


def smoothed(points: Points) -> Points:
    """Mean over a twentieth of the points around each; narrower at both ends, so that it lags nowhere."""
    reach = max(1, len(points) // 40)
    out = []
    for i, (step, _) in enumerate(points):
        near = min(reach, i, len(points) - 1 - i)
        values = [v for _, v in points[i - near : i + near + 1] if math.isfinite(v)]
        out.append((step, sum(values) / len(values) if values else math.nan))
    return out


def sparkline(points: Points, colour: str) -> str:
    """A small curve on [0, 1] for a table's cell."""
    width, height = 120, 22
    last = max((p[0] for p in points), default=1.0) or 1.0
    at = [(2 + (width - 4) * s / last, height - 2 - (height - 4) * min(1.0, max(0.0, v))) for s, v in points if v == v]
    path = "".join(f"{'L' if i else 'M'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(at))
    dot = f'<circle cx="{at[-1][0]:.1f}" cy="{at[-1][1]:.1f}" r="2" fill="{colour}"/>' if at else ""
    return (
        f'<svg class="spark" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>{dot}</svg>'
    )


def _legend(curves: Sequence[Curve]) -> Iterator[str]:
    x = WIDTH - RIGHT
    for curve in reversed(curves):
        x -= 7 * len(curve.name) + 4
        dash = ' stroke-dasharray="5 3"' if curve.dashed else ""
        yield f'<text x="{x}" y="16" fill="#66717f">{escape(curve.name)}</text>'
        yield f'<line x1="{x - 22}" x2="{x - 4}" y1="12" y2="12" stroke="{curve.colour}" stroke-width="2"{dash}/>'
        x -= 32
