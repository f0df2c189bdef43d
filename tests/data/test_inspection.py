"""What `inspect` counts, in Python and from the command line."""

import numpy as np
import pytest
from command_line import run
from PIL import Image

from keras_diffusion import data


@pytest.fixture
def folder(tmp_path):
    """Five pictures in two classes, one of them broken; three have captions, one of those two."""
    for name, size, texts in [
        ("cat/a", (8, 6), "a cat"),
        ("cat/b", (8, 6), "a cat\nanother cat on a mat"),
        ("cat/c", None, ""),
        ("dog/a", (4, 4), "a dog"),
        ("dog/b", (8, 6), ""),
    ]:
        path = tmp_path / "pets" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(path) if size else path.write_bytes(b"x")
        if texts:
            path.with_suffix(".txt").write_text(texts)
    return tmp_path / "pets"


def test_everything_is_counted(folder):
    seen = []
    report = data.inspect(data.ImageFolder(folder), lambda numbers: [seen.append(i) or i for i in numbers])
    assert report.samples == 5 and seen == list(range(5))
    assert report.sizes == {(6, 8): 3, (4, 4): 1} and report.classes == {"cat": 2, "dog": 2}
    assert report.captions == {1: 2, 2: 1, 0: 1} and sorted(report.words) == [2, 2, 2, 5]
    ((number, (name, error)),) = report.broken.items()
    assert (number, name) == (2, "c.png") and "Cannot read the image" in error
    lines = str(report).splitlines()
    assert lines[1:3] == ["readable   4 of 5", "sizes      6×8 (3), 4×4 (1)"]
    assert "3 samples have one or more, 1 several, 1 none; 2.8 words each, 5 at most" in lines[4]


def test_arrays_and_batches():
    batches = data.load("digits", split="all", batch_size=7)
    assert data.inspect(batches).sizes == {(8, 8): 1797}
    points = data.inspect(np.zeros((3, 2)))
    assert points.sizes == {(2,): 3} and not points.captions[1] and "captions" not in str(points)
    with pytest.raises(ValueError, match="A data source must be an array"):
        data.inspect("digits")


def test_the_command(folder, tmp_path):
    result = run("data", "inspect", folder, "--out", tmp_path / "sheet.png")
    assert result.exit_code == 0, result.output
    assert "readable   4 of 5" in result.stdout and "c.png: Cannot read the image" in result.stdout
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[0] > 4 * 64 and sheet.size[1] > 64
    again = run("data", "inspect", folder, "--out", tmp_path / "sheet.png")
    assert again.exit_code == 2 and "exists" in again.stderr
    for wrong in (["nowhere"], [folder, "--out", "sheet.gif"], [folder, "--split", "val"]):
        result = run("data", "inspect", *wrong)
        assert result.exit_code and "Received: " in result.stderr and "Traceback" not in result.output, wrong


def test_parts_with_folders_of_their_own(folder, tmp_path):
    for split in ("train", "test"):
        (tmp_path / "both" / split).mkdir(parents=True)
        Image.new("L", (3, 2 if split == "test" else 3)).save(tmp_path / "both" / split / "a.png")
    result = run("data", "inspect", tmp_path / "both", "--buckets", 16).stdout
    assert "3×3 (1)" in result and "buckets    16×16 (1)" in result
    assert "2×3 (1)" in run("data", "inspect", tmp_path / "both", "--split", "test").stdout


def test_a_part_of_a_source_is_looked_at_alone():
    assert data.inspect(data.Subset(data.ArraySource(np.zeros((5, 4, 4, 1))), [1, 3])).samples == 2
