"""What is packed as tar files is read back as it was."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from keras_diffusion import data
from keras_diffusion.cli.app import app

pytestmark = pytest.mark.slow  # NumPy alone: no backend changes it


def folder_of_classes(path, n=5):
    """Pictures 8×6 of two classes, some with captions."""
    rng = np.random.default_rng(0)
    for name in ("daisy", "rose"):
        (path / name).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(rng.integers(0, 256, (6, 8, 3), "uint8")).save(path / name / f"{i}.png")
    (path / "rose" / "1.txt").write_text("a red rose\none rose, “red”", encoding="utf-8")
    return path


def test_packed_batches_equal_those_of_the_folder(tmp_path):
    pictures = data.load(folder_of_classes(tmp_path / "pictures"), split="all", image_size=4, batch_size=1)
    packed = data.pack(pictures, tmp_path / "shards", shard_size=4)
    assert (packed.samples, packed.shards, packed.skipped) == (10, 3, {})
    assert sorted(file.name for file in packed.folder.iterdir()) == [f"part-{i:05}.tar" for i in range(3)]
    options = {"batch_size": 3, "seed": 5, "captions": True, "validation_fraction": 0.4}
    for split in ("train", "validation"):
        one = data.load(tmp_path / "pictures", split=split, image_size=4, **options)
        other = data.load(packed.folder, split=split, **options)
        assert one.class_names == other.class_names == ["daisy", "rose"] and len(one) == len(other) > 0
        for i in range(len(one)):
            for key in ("images", "labels", "captions"):
                np.testing.assert_array_equal(one[i][key], other[i][key])


def test_the_same_data_give_the_same_bytes(tmp_path):
    one, other = (data.pack({"images": np.zeros((3, 4, 4, 1))}, tmp_path / name) for name in "ab")
    assert (one.folder / "part-00000.tar").read_bytes() == (other.folder / "part-00000.tar").read_bytes()
    assert data.load(one.folder, channels=1, batch_size=3).image_shape == (4, 4, 1)


def test_templates_make_captions(tmp_path):
    packed = data.pack(data.ImageFolder(folder_of_classes(tmp_path / "a", 1)), tmp_path / "b", captions="one {}")
    assert data.load(packed.folder, batch_size=2, captions=True).all_captions() == ["one daisy", "one rose"]


def test_broken_samples_are_left_out_or_end_it(tmp_path):
    folder = folder_of_classes(tmp_path / "a", 2)
    (folder / "daisy" / "1.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"daisy.1\.png"):
        data.pack(data.ImageFolder(folder), tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"], "half a data set stayed behind"
    packed = data.pack(data.ImageFolder(folder), tmp_path / "b", on_error="skip")
    assert packed.samples == 3 and list(packed.skipped) == [1] and "1 left out" in str(packed)
    with pytest.raises(ValueError, match=r"new folder.*exists"):
        data.pack(data.ImageFolder(folder), tmp_path / "b")


@pytest.mark.parametrize(
    ("what", "match"),
    [
        (np.zeros((2, 5)), "1, 3 or 4 channels"),
        ({"images": np.zeros((2, 4, 4, 3)), "context": np.zeros((2, 1))}, "context"),
        (np.full((2, 4, 4, 3), 7.0), "range|lie"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path, what, match):
    with pytest.raises(ValueError, match=match):
        data.pack(data.Batches(what, 1, value_range=None), tmp_path / "b")
    with pytest.raises(ValueError, match="names of classes"):
        data.pack(np.zeros((2, 4, 4, 3)), tmp_path / "b", captions="a {}")


def test_the_command_packs_and_lists_what_it_leaves_out(tmp_path):
    folder = folder_of_classes(tmp_path / "a", 2)
    (folder / "rose" / "0.png").write_bytes(b"")
    command = ["data", "pack", str(folder), str(tmp_path / "b"), "--image-size", "4x5", "--captions", "a {}"]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code != 0 and "rose" in refused.output and not (tmp_path / "b").exists()
    result = CliRunner().invoke(app, [*command, "--skip-broken"])
    assert result.exit_code == 0, result.output
    assert "left out" in result.output and "3 samples in 1 tar files" in result.output
    assert data.load(tmp_path / "b", batch_size=1).image_shape == (4, 5, 3)
    wrong = CliRunner().invoke(app, ["data", "pack", str(folder), str(tmp_path / "c"), "--image-size", "big"])
    assert wrong.exit_code != 0 and "64x48" in wrong.output
