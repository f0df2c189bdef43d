"""Plots as SVG text: where points land, and what is drawn of values that have no place."""

import math
import re
from xml.etree import ElementTree

import pytest

from keras_diffusion.comparison.svg import bars, chart

COLOURS = {"a": "#ff0000", "b": "#0000ff"}


def elements(svg, tag):
    return [element for element in ElementTree.fromstring(svg).iter() if element.tag == tag]


def points_of(line):
    return [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]


def test_lines_rise_with_their_values_and_all_are_seen():
    svg = chart({"a": ([1, 2, 3], [0.5, 0.7, 0.9]), "b": ([1, 2, 3], [0.5, 0.7, 0.9])}, COLOURS, "step", "loss")
    first, second = elements(svg, "polyline")
    assert points_of(first) == points_of(second) and float(first.attrib["stroke-width"]) > float(
        second.attrib["stroke-width"]
    )
    (x1, y1), (x2, y2), (x3, y3) = points_of(first)
    assert x1 < x2 < x3 and y1 > y2 > y3  # SVG counts y downwards
    assert y1 - y2 == pytest.approx(y2 - y3, abs=0.2)


def test_a_logarithmic_axis_spaces_decades_evenly_and_has_a_floor():
    svg = chart(
        {"a": ([0, 1, 2, 3], [1e-6, 1e-4, 1e-2, 0.0])}, COLOURS, "layer", "difference", log=True, floor=1e-8, guide=1e-4
    )
    y = [y for _, y in points_of(elements(svg, "polyline")[0])]
    assert y[0] - y[1] == pytest.approx(y[1] - y[2], abs=0.2) == pytest.approx(y[3] - y[0], abs=0.2)
    (guide,) = (line for line in elements(svg, "line") if line.attrib["class"] == "guide")
    assert float(guide.attrib["y1"]) == pytest.approx(y[1], abs=0.2)


def test_points_say_what_they_are_and_infinite_ones_are_left_out():
    values = ([0, 1, 2, 3], [1e-6, math.inf, "inf", 2e-6])
    svg = chart(
        {"a": values},
        COLOURS,
        "layer",
        "difference",
        log=True,
        floor=1e-9,
        mode="points",
        names=["conv<1>", "x", "y", "dense"],
    )
    assert [title.text for title in elements(svg, "title")] == ["a: conv<1>, 1e-06", "a: dense, 2e-06"]


@pytest.mark.parametrize(
    "series", [{}, {"a": ([1], [0.5])}, {"a": ([1, 2], [0.0, 0.0])}, {"a": ([1, 2], [math.nan, math.inf])}]
)
def test_little_to_draw_is_drawn(series):
    for log in (False, True):
        svg = chart(series, COLOURS, "x", "y", log=log, floor=1e-9)
        assert not re.search(r"nan|inf", svg)
        assert elements(svg, "svg")


def test_bars_are_as_long_as_their_medians():
    svg = bars({"a": (1.0, 1.0, 2.0), "b": (3.0, 4.0, 4.0)}, COLOURS, "time", lambda x: f"{x:g} s")
    short, long = (float(bar.attrib["width"]) for bar in elements(svg, "rect"))
    assert long == pytest.approx(4 * short, rel=1e-2)
    assert {"a", "b", "1 s", "4 s", "time"} <= {text.text for text in elements(svg, "text")}
