"""The page of a comparison: read as HTML, and looked at in a browser where there is one."""

import base64
import html.parser
import io
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from keras_diffusion.comparison.page import COLOURS, render, write_page
from keras_diffusion.comparison.pictures import amplification
from keras_diffusion.comparison.report import summarize

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))), None
)
VOID = {"meta", "img", "br", "hr"}


class Reader(html.parser.HTMLParser):
    """Tags in order, with their attributes and text; fails on tags that are not closed in turn."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found, self.words = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def made_up(samples, missing="torch"):
    """A summary as `compare` makes it, of jax, tensorflow and one that is missing, and the samples."""
    layers = {"conv_in": np.ones(4), "block/conv1": np.full(4, 2.0), "conv_out": np.full(4, 3.0)}
    measured = {
        "status": "ok",
        "devices": ["cpu"],
        "versions": {"keras": "3"},
        "memory": {"before": 2**28, "bytes": 2**30, "of": "process"},
        "sampling": {"seconds": [2.0, 0.5, 0.6, 0.7]},
        "training": {"seconds": [5.0, 0.1, 0.2, 0.3], "losses": [1.0, 0.9, 0.8, 0.7]},
        "samples": samples,
        "layers": layers,
    }
    other = {**measured, "samples": samples + 1e-4, "layers": {**layers, "block/conv1": np.full(4, 2.1)}}
    other["training"] = {"seconds": [1.0, 0.4, 0.4, 0.4], "losses": [1.0, 0.9, 0.81, 0.7]}
    results = {
        "jax": measured,
        "tensorflow": other,
        missing: {"status": "missing", "reason": "No module named '<torch>'"},
    }
    settings = {
        "steps": 4,
        "batch_size": 8,
        "num_samples": len(samples),
        "num_steps": 10,
        "sampler": {"name": "ddim", "eta": 1.0},
        "seed": 0,
    }
    spec = {"settings": settings, "sample_shape": list(samples.shape[1:]), "random_data": True}
    summary = summarize(spec, results, "jax", {"title": "tiny & <small>", "network": "UNet", "parameters": 1234})
    return summary, {name: result["samples"] for name, result in results.items() if result["status"] == "ok"}


def images():
    """Green squares, a colour that nothing else on the page has."""
    return np.broadcast_to(np.array([10, 200, 30], "float32") / 127.5 - 1.0, (4, 8, 8, 3)).copy()


def test_numbers_of_the_summary():
    summary, _ = made_up(images())
    rows = summary["backends"]
    assert rows["torch"] == {"status": "missing", "reason": "No module named '<torch>'"}
    assert rows["jax"]["training"]["compile_s"] == pytest.approx(4.8) and rows["jax"]["training"][
        "quartiles_s"
    ] == pytest.approx([0.15, 0.25])
    assert rows["jax"]["training"]["images_per_s"] == pytest.approx(8 / 0.2) and rows["jax"]["sampling"][
        "compile_s"
    ] == pytest.approx(1.4)
    assert rows["jax"]["difference"] is None
    difference = rows["tensorflow"]["difference"]
    assert difference["loss"] == pytest.approx(0.0125) and difference["samples"] == pytest.approx(1e-4, rel=1e-2)
    assert difference["largest_layer"] == difference["first_layer_above_limit"] == ["block/conv1", pytest.approx(0.05)]


def test_the_page_is_whole_and_alone():
    page = Reader(render(*made_up(images())))
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    assert all(image["src"].startswith("data:image/png;base64,") and image["alt"] for image in page.all("img"))
    for _, attributes in page.found:
        assert not any(str(value).startswith(("http:", "https:", "//")) for value in attributes.values())
    text = " ".join(page.words)
    assert "tiny & <small>" in text and "missing: No module named '<torch>'" in text
    assert "5.0e-02 in block/conv1" in text and "ddim, eta=1.0" in text and "Random numbers stood in for data" in text
    assert len(page.all("svg")) == 5


def test_pictures_hold_the_samples_and_their_difference():
    page = Reader(render(*made_up(images())))
    pictures = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2]))))
        for image in page.all("img")
    ]
    assert len(pictures) == 3  # two grids, one difference
    assert all(
        picture.shape == (131, 131, 3) for picture in pictures
    )  # 2 × 2 images of 64 pixels, one pixel between them
    np.testing.assert_array_equal(pictures[0][10, 10], [10, 200, 30])
    assert any("× 10,000" in words for words in page.words)
    np.testing.assert_allclose(pictures[2][10, 10].astype(int), 127, atol=2)  # 1e-4 × 10⁴ is half of the range of 2


def test_amplification_is_a_power_of_ten():
    assert [amplification(np.array([0.0, value])) for value in (2.0, 0.3, 1e-4, 3e-7, 0.0)] == pytest.approx(
        [1.0, 1.0, 1e4, 1e6, 1.0]
    )


@pytest.mark.parametrize(
    "shape, plots", [((6, 2), 6), ((6, 1), 5), ((4, 16, 2), 8), ((2, 4, 8, 8, 3), 5), ((4, 8, 8, 2), 5)]
)
def test_samples_that_are_no_images(shape, plots):
    """Vectors are points, sequences curves; a vector of one number, videos and images of two channels are not shown."""
    page = Reader(render(*made_up(np.random.default_rng(0).standard_normal(shape))))
    assert len(page.all("svg")) == plots and not page.all("img")
    assert ("Samples" in page.words) == (plots > 5)


def test_nothing_to_compare_with():
    """The reference did not come to its end: the others are shown alone; nobody did: the table is all."""
    summary, samples = made_up(images())
    summary["backends"]["jax"] = {"status": "failed", "reason": "MemoryError"}
    del summary["backends"]["tensorflow"]["difference"], samples["jax"]
    page = Reader(render(summary, samples))
    assert len(page.all("svg")) == 3 and len(page.all("img")) == 1 and "no reference" in page.words
    summary["backends"]["tensorflow"] = {"status": "missing", "reason": "not installed"}
    page = Reader(render(summary, {}))
    assert not page.all("svg") and not page.all("img") and "failed: MemoryError" in page.words


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")
def test_a_browser_shows_tables_plots_and_pictures(tmp_path):
    write_page(tmp_path / "compare.html", *made_up(images()))
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--window-size=1200,3000",
    ]
    command = [BROWSER, *options, f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={tmp_path / 'page.png'}"]
    result = subprocess.run(
        [*command, (tmp_path / "compare.html").as_uri()], capture_output=True, text=True, timeout=120, check=False
    )
    assert (tmp_path / "page.png").is_file(), result.stderr[-2000:]
    seen = np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).reshape(-1, 3)
    seen = {tuple(map(int, colour)): count for colour, count in zip(*np.unique(seen, axis=0, return_counts=True))}
    for backend in ("jax", "tensorflow"):
        assert seen.get(rgb(COLOURS[backend]), 0) > 1000, backend  # bars
    assert seen.get((10, 200, 30), 0) >= 2 * 4 * 64 * 64 * 0.9  # both grids of pictures, at their size
    assert seen.get(rgb("#b45309"), 0) > 20  # the row of the missing one


def rgb(colour):
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
