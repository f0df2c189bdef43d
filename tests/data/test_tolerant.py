"""Data sets with broken pictures: every one is left out and listed, or the first is named."""

import io

import numpy as np
import pytest
from command_line import run
from PIL import Image

import keras_diffusion as kd
from keras_diffusion import data


def encoded(kind="PNG", size=(8, 8), mode="RGB", **options):
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype="uint8")
    Image.fromarray(noise).convert(mode).save(file, kind, **options)
    return file.getvalue()


def broken_files():
    """Ten ways in which a file is no picture: {ending: bytes}."""
    good, jpeg = encoded(), encoded("JPEG", (64, 64))
    floats = io.BytesIO()
    Image.fromarray(np.full((4, 4), 300.0, "float32")).save(floats, "TIFF")
    start = good.index(b"IHDR")
    return {
        "empty.png": b"",
        "text.jpg": b"<html>404</html>",
        "zeros.png": bytes(500),
        "half.png": good[: len(good) // 2],
        "half.jpg": jpeg[: len(jpeg) // 2],
        "no-size.png": good[: start + 4] + bytes(8) + good[start + 12 :],
        "huge.png": good[: start + 4] + b"\x00\x0f\xff\xff" * 2 + good[start + 12 :],
        "floats.tiff": floats.getvalue(),
        "signature.gif": b"GIF89a",
        "flipped.png": good[:60] + bytes([good[60] ^ 255]) + good[61:],
    }


def test_ten_thousand_files_of_which_a_hundred_are_broken(tmp_path):
    good, broken = encoded(), broken_files()
    assert len(broken) == 10
    bad = {i: list(broken.items())[i % 10] for i in range(50, 10_000, 100)}
    for i in range(10_000):
        name, content = bad.get(i, ("good.png", good))
        (tmp_path / f"{i:05}-{name}").write_bytes(content)
    with pytest.warns(UserWarning, match="A sample cannot be read and is left out: Cannot read the image"):
        batches = data.load(tmp_path, batch_size=500, on_error="skip")
        for i in range(len(batches)):
            batch = batches[i]
            assert batch["images"].shape == (500, 8, 8, 3)
            assert (batch["images"] == batch["images"][0]).all(), "a whole picture stands in for each broken one"
    files = batches.source.source.files
    assert sorted(batches.source.skipped) == sorted(bad)
    assert all(files[i].name in message for i, message in batches.source.skipped.items())
    with pytest.raises(ValueError, match=r"Cannot read the image .*00050-empty\.png.*Remove or replace the file"):
        data.load(tmp_path, batch_size=500, shuffle=False)[0]


@pytest.mark.slow
def test_training_goes_on_and_the_report_lists_all(tmp_path):
    broken = broken_files()
    for i in range(220):
        name, content = list(broken.items())[i % 10] if i < 100 else ("good.png", encoded())
        (tmp_path / f"{i:03}-{name}").write_bytes(content)
    (tmp_path / "a-folder.png").mkdir()
    report = run("data", "inspect", tmp_path, "--all-broken")
    assert report.exit_code == 0 and "readable   120 of 220" in report.stdout, report.output
    listed = [line.split()[2].rstrip(":") for line in report.stdout.splitlines() if line.startswith("broken")]
    assert listed == [path.name for path in sorted(tmp_path.glob("*-*"))[:100]]
    assert "and 80 more" in run("data", "inspect", tmp_path).stdout

    model = kd.DiffusionModel(kd.networks.UNet((8, 8, 3), widths=(4,), num_res_blocks=1), seed=0)
    model.compile("adam")
    with pytest.warns(UserWarning, match="left out"):
        batches = data.load(tmp_path, batch_size=22, on_error="skip", workers=2)
        loss = model.fit(batches, epochs=1, verbose=0).history["loss"]
    assert np.isfinite(loss).all() and len(batches.source.skipped) == 100


def test_a_broken_table_is_no_lack_of_captions(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(encoded())
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "0.png", "text": "a"}\n{"file_name": "1.png", "te')
    with (
        pytest.warns(UserWarning),
        pytest.raises(ValueError, match=r"No sample .* can be read. The first: The line 2 of"),
    ):
        data.load(tmp_path, batch_size=2, on_error="skip", captions=True)


def test_captions_and_labels_are_those_of_the_picture_that_stands_in(tmp_path):
    for i in range(4):
        (tmp_path / f"class{i}").mkdir()
        (tmp_path / f"class{i}" / "a.png").write_bytes(encoded() if i != 1 else b"x")
        (tmp_path / f"class{i}" / "a.txt").write_text(f"caption {i}")
    (tmp_path / "class3" / "a.txt").write_bytes(b"\xff")
    with pytest.warns(UserWarning, match="left out"):
        batches = data.load(tmp_path, batch_size=4, on_error="skip", captions=True, shuffle=False)
        batch = batches[0]
    assert batch["captions"].tolist() == ["caption 0", "caption 2", "caption 2", "caption 0"]
    assert batch["labels"].tolist() == [0, 2, 2, 0] and sorted(batches.source.skipped) == [1, 3]


def test_nothing_that_can_be_read(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(b"x")
    batches = data.load(tmp_path, batch_size=2, on_error="skip")
    with pytest.raises(ValueError, match="No sample of .* can be read. The first: "), pytest.warns(UserWarning):
        batches[0]


def test_held_out_pictures_never_stand_in(tmp_path):
    for i in range(10):
        (tmp_path / f"{i}.png").write_bytes(encoded(size=(4 + i, 8)))
    heights = {
        split: {s["images"].shape[0] for s in map(source.__getitem__, range(len(source)))}
        for split in ("train", "validation")
        for source in [data.load(tmp_path, split=split, validation_fraction=0.5, batch_size=2).source]
    }
    for i in range(0, 10, 3):
        (tmp_path / f"{i}.png").write_bytes(b"x")
    with pytest.warns(UserWarning):
        train = data.load(tmp_path, validation_fraction=0.5, batch_size=2, on_error="skip").source
        read = {train[i]["images"].shape[0] for i in range(len(train))}
    assert read and read <= heights["train"]


def test_unknown_policy(tmp_path):
    with pytest.raises(ValueError, match="`on_error` is one of 'raise', 'skip'"):
        data.load("digits", on_error="ignore")
