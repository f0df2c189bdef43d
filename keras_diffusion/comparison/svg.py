"""Plots as SVG text, drawn inside an HTML page: lines, points and bars with quartiles, on linear or logarithmic axes.

Colours and fonts are the page's (classes `axis`, `grid`, `guide`); points have tooltips (`<title>`).
"""

import html
import math

import numpy as np

_WIDTH, _HEIGHT = 520, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 14, 12, 40


def chart(series, colours, x_label, y_label, log=False, floor=None, guide=None, mode="lines", names=None, width=_WIDTH):
    """Lines or points of several series over one axis.

    Args:
        series: name → (x, y): sequences of one length; y that is not finite leaves a gap.
        colours: name → CSS colour.
        x_label, y_label: text.
        log: whether y is logarithmic.
        floor: with `log`, smaller values, including 0, are drawn here.
        guide: y of a dashed line across, or None.
        mode: "lines", or "points".
        names: x → text, for the titles of points.
        width: of the plot, in pixels.

    Returns:
        `<svg>…</svg>`.
    """
    clean = {name: _finite(x, y, floor if log else None) for name, (x, y) in series.items()}
    xs = [x for points in clean.values() for x, _ in points] or [0.0]
    ys = [y for points in clean.values() for _, y in points] + ([] if guide is None else [guide])
    to_x = _scale_x(min(xs), max(xs), width)
    to_y, y_ticks = _scale_y(ys or [1.0], log)
    parts = [_axes(to_x, to_y, _linear_ticks(min(xs), max(xs), whole=True), y_ticks, x_label, y_label, width)]
    if guide is not None:
        parts.append(
            f'<line class="guide" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{to_y(guide):.1f}" y2="{to_y(guide):.1f}"/>'
        )
    for i, (name, points) in enumerate(clean.items()):
        if mode == "lines":
            path = " ".join(f"{to_x(x):.1f},{to_y(y):.1f}" for x, y in points)
            style = f'stroke="{colours[name]}" stroke-width="{1.8 + 3.2 * (len(clean) - 1 - i):.1f}"'
            parts.append(f'<polyline class="line" {style} points="{path}"/>')  # later ones thinner: all are visible
            continue
        for x, y in points:
            title = html.escape(f"{name}: {names[int(x)] if names else f'{x:.3g}'}, {y:.2g}")
            circle = f'cx="{to_x(x):.1f}" cy="{to_y(y):.1f}" r="3" fill="{colours[name]}" fill-opacity="0.75"'
            parts.append(f"<circle {circle}><title>{title}</title></circle>")
    return _svg(parts, f"{y_label} over {x_label}", width)


def bars(values, colours, label, show):
    """Horizontal bars of medians, with a line from the lower to the upper quartile.

    Args:
        values: name → (lower quartile, median, upper quartile).
        colours: name → CSS colour.
        label: text of the axis.
        show: function of a number to text.

    Returns:
        `<svg>…</svg>`.
    """
    height = _TOP + 44 * len(values) + _BOTTOM
    left, high = 96, 1.05 * max(high for _, _, high in values.values())
    ticks = _linear_ticks(0.0, high)

    def to_x(x):
        return left + (_WIDTH - left - 90) * x / high

    bottom = height - _BOTTOM
    parts = [
        *(f'<line class="grid" x1="{to_x(t):.1f}" x2="{to_x(t):.1f}" y1="{_TOP}" y2="{bottom}"/>' for t in ticks),
        *(_text(to_x(t), bottom + 16, show(t) if t else "0", "middle") for t in ticks),
        _text((to_x(0) + to_x(high)) / 2, height - 6, label, "middle"),
    ]
    for i, (name, (lower, median, upper)) in enumerate(values.items()):
        y, colour = _TOP + 44 * i + 8, colours[name]
        parts += [
            _text(left - 8, y + 18, name, "end"),
            f'<rect x="{left}" y="{y}" width="{to_x(median) - left:.1f}" height="26" rx="3" fill="{colour}"/>',
            f'<line class="whisker" x1="{to_x(lower):.1f}" x2="{to_x(upper):.1f}" y1="{y + 13}" y2="{y + 13}"/>',
            _text(max(to_x(median), to_x(upper)) + 8, y + 18, show(median), "start"),
        ]
    return _svg(parts, label, height=height)


def _finite(x, y, floor):
    points = []
    for a, b in zip(x, y, strict=True):
        if not isinstance(b, str) and math.isfinite(b):
            points.append((float(a), max(float(b), floor) if floor else float(b)))
    return points


def _scale_x(low, high, width):
    span = (high - low) or 1.0
    return lambda x: _LEFT + 8 + (width - _LEFT - _RIGHT - 16) * (x - low) / span


def _scale_y(values, log):
    """(function from a value to a pixel, ticks)."""
    low, high = min(values), max(values)
    if log:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        last += first == last
        ticks = [10.0**n for n in range(first, last + 1, max(1, (last - first) // 5))]
        return lambda y: _height_of((math.log10(y) - first) / (last - first)), ticks
    margin = 0.06 * (high - low) or abs(high) or 1.0
    low, high = low - margin, high + margin
    return lambda y: _height_of((y - low) / (high - low)), _linear_ticks(low, high)


def _height_of(share):
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _linear_ticks(low, high, whole=False):
    """About five round numbers within [low, high]."""
    if high <= low:
        return [low]
    raw = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(raw))
    step = unit * next(m for m in (1, 2, 5, 10) if m * unit >= raw)
    step = max(1.0, step) if whole else step
    return [float(t) for t in np.arange(math.ceil(low / step), math.floor(high / step) + 1) * step]


def _axes(to_x, to_y, x_ticks, y_ticks, x_label, y_label, width):
    right, bottom = width - _RIGHT, _HEIGHT - _BOTTOM
    middle = (_TOP + bottom) / 2
    turned = f'text-anchor="middle" transform="rotate(-90 14 {middle})"'
    parts = (
        *(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{to_y(t):.1f}" y2="{to_y(t):.1f}"/>' for t in y_ticks),
        *(_text(_LEFT - 8, to_y(t) + 4, _number(t), "end") for t in y_ticks),
        *(_text(to_x(t), bottom + 16, _number(t), "middle") for t in x_ticks),
        f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>',
        _text((_LEFT + right) / 2, _HEIGHT - 6, x_label, "middle"),
        f'<text x="14" y="{middle}" {turned}>{html.escape(y_label)}</text>',
    )
    return "".join(parts)


def _number(value):
    return f"{value:.0e}" if value and (abs(value) < 1e-3 or abs(value) >= 1e5) else f"{value:.4g}"


def _text(x, y, text, anchor):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _svg(parts, label, width=_WIDTH, height=_HEIGHT):
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(label)}">{"".join(parts)}</svg>'
