"""Every picture of the pages is the product of a command that the page names, and reads on light and dark grounds."""

import importlib.util
import re
from pathlib import Path

import pytest
from pages import blocks

from keras_diffusion import visualization

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")]
OTHER_NAMES = {
    "keras-diffusion demo": "make demo",
    "python benchmarks/solvers.py": "make solvers",
    "cd benchmarks && python -m reports": "make reports",
}


@pytest.fixture(scope="module")
def pictures():
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "benchmarks" / "pictures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown(page):
    """Names in docs/images of the pictures of a page."""
    return set(re.findall(r"[(\"](?:\.\./|docs/)?images/([\w-]+\.\w+)[)\"]", page.read_text(encoding="utf-8")))


def test_each_file_is_made_by_one_command_and_shown(pictures):
    made = [name for names in pictures.COMMANDS.values() for name in names]
    there = sorted(path.name for path in IMAGES.iterdir())
    assert sorted(made) == there == sorted(set().union(*map(shown, PAGES)))
    assert "benchmarks/pictures.py" in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", [page for page in PAGES if shown(page)], ids=lambda page: page.stem)
def test_a_page_names_the_commands_of_its_pictures(pictures, page):
    text = page.read_text(encoding="utf-8")
    for command, names in pictures.COMMANDS.items():
        if shown(page) & set(names):
            command = command.split(" --")[0]  # as far as options
            script = re.search(r"\w+/\w+\.py", command)
            ways = [command, OTHER_NAMES.get(command), script and script[0]]
            assert any(way and way in text for way in ways), command


@pytest.mark.parametrize("path", sorted(IMAGES.iterdir()), ids=lambda path: path.stem)
def test_a_picture_has_the_ground_of_its_page(path):
    image = pytest.importorskip("PIL.Image")
    with image.open(path) as picture:
        size = picture.size
        corners = [picture.convert("RGBA").getpixel(place) for place in ((0, 0), (size[0] - 1, size[1] - 1))]
    if path.stem != "compare":  # a screenshot
        assert [alpha for *_, alpha in corners] == [0, 0]
    assert path.stat().st_size < 350_000


def test_a_command_makes_its_pictures_again(pictures, tmp_path):
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    pictures.main(["--only", "growth.png", "--out", str(tmp_path)])
    with image.open(tmp_path / "growth.png") as again, image.open(IMAGES / "growth.png") as stored:
        assert again.size == stored.size


def test_the_page_on_pictures_draws_every_kind_in_ten_lines():
    page = (ROOT / "docs" / "visualization.md").read_text(encoding="utf-8")
    code = [block for block, reason in blocks(page, "python") if reason is None]
    assert max(len([line for line in block.splitlines() if line.strip()]) for block in code) <= 10
    for name in visualization.__all__:
        if not name[0].isupper() and name not in ("to_uint8", "png_bytes"):
            assert name in page, name
