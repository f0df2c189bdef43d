"""Captions from every place where they may stand, and what becomes of those that are wrong."""

import json

import numpy as np
import pytest
from PIL import Image

from keras_diffusion import data
from keras_diffusion.data.captions import read_table
from keras_diffusion.runtime import limits

TEXTS = [("a red apple",), ("a green pear", "a pear"), ("",), ("ein süßer Apfel 🍎",)]


def pictures(folder):
    """Four pictures, 0.png to 3.png, of one value each."""
    folder.mkdir(exist_ok=True)
    for i in range(len(TEXTS)):
        Image.new("RGB", (8, 8), (40 * i,) * 3).save(folder / f"{i}.png")
    return folder


def with_text_files(folder):
    for i, texts in enumerate(TEXTS):
        if texts != ("",):
            (folder / f"{i}.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")


def with_jsonl(folder):
    rows = [{"file_name": f"{i}.png", "text": list(t) if len(t) > 1 else t[0]} for i, t in enumerate(TEXTS)]
    lines = [json.dumps(row, ensure_ascii=i % 2 == 0) for i, row in enumerate(rows)]
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")


def with_csv(folder):
    rows = [f'{i}.png,"{text}"' for i, texts in enumerate(TEXTS) for text in texts]
    (folder / "metadata.csv").write_text("\n".join(["file_name,caption", *rows]), encoding="utf-8-sig")


@pytest.mark.parametrize("write", [with_text_files, with_jsonl, with_csv])
def test_a_folder_gives_its_captions(tmp_path, write):
    write(pictures(tmp_path / "p"))
    batches = data.load(tmp_path / "p", batch_size=4, shuffle=False, captions=True)
    assert batches.source.texts([3, 1]) == [TEXTS[3], TEXTS[1]]
    assert batches.source.captions == [texts[0] if len(texts) == 1 else texts for texts in TEXTS]
    batch = batches[0]
    assert batch["captions"].shape == (4,) and batch["captions"].dtype == object
    assert [text in texts for text, texts in zip(batch["captions"], TEXTS)] == [True] * 4
    assert "captions" not in data.load(tmp_path / "p", batch_size=4)[0]


def test_class_folders_have_captions_too(tmp_path):
    for name in ("cat", "dog"):
        with_text_files(pictures(tmp_path / name))
    with_jsonl(tmp_path)  # its names are those of no picture here: they are relative to the table
    source = data.load(tmp_path, captions=True, batch_size=2).source
    with pytest.warns(UserWarning, match="captions of 4 pictures that the folder does not have, the first '0.png'"):
        assert source.texts([0, 2, 4, 5]) == [TEXTS[0], ("",), TEXTS[0], TEXTS[1]]
    assert source[4]["labels"] == 1


def test_each_epoch_draws_one_of_several():
    arrays = {"images": np.zeros((6, 2, 2, 1), "uint8"), "captions": [[f"{i}{c}" for c in "abcd"] for i in range(6)]}
    batches = data.load(arrays, batch_size=3, captions=True, seed=5)
    seen = []
    for batches.epoch in range(8):
        seen.append(np.concatenate([batches[i]["captions"] for i in range(2)]).tolist())
        assert sorted(text[0] for text in seen[-1]) == list("012345"), "every picture once"
    assert len({text for epoch in seen for text in epoch}) > 18, "nearly all 24 in eight epochs"
    again = data.load(arrays, batch_size=3, captions=True, seed=5)
    again.epoch = 6
    assert again[1]["captions"].tolist() == seen[6][3:], "a function of seed, epoch and batch"
    again.rows = np.array([2, 0])
    assert again[1]["captions"].tolist() == [seen[6][5], seen[6][3]], "another process draws the same"


def test_parts_and_sizes_keep_captions_beside_their_pictures(tmp_path):
    with_csv(pictures(tmp_path))
    for split in ("train", "validation"):
        batches = data.load(
            tmp_path, split=split, validation_fraction=0.5, image_size=4, batch_size=2, captions=True, seed=3
        )
        batch = batches[0]
        for image, text in zip(batch["images"], batch["captions"]):
            assert text in TEXTS[round((image[0, 0, 0] + 1) * 127.5 / 40)]


def test_captions_of_arrays_files_and_samples(tmp_path):
    images = np.zeros((3, 2, 2, 1), "uint8")
    np.savez(tmp_path / "a.npz", images=images, captions=np.array(["x", "y", "z"]))
    samples = [{"image": image, "caption": text} for image, text in zip(images, ["x", ["y", "y"], "z"])]
    for source in (tmp_path / "a.npz", samples, {"images": images, "captions": ("x", "y", "z")}):
        batches = data.load(source, batch_size=3, shuffle=False, captions=True)
        assert batches[0]["captions"].tolist() == ["x", "y", "z"]
        assert set(data.load(source, batch_size=3)[0]) == {"images"}


def test_captions_of_class_names():
    batches = data.load("digits", captions=["the digit {}", "a {}"], batch_size=64)
    batch = batches[0]
    assert {text.rsplit(" ", 1)[0] for text in batch["captions"]} == {"the digit", "a"}
    assert [int(text.split()[-1]) for text in batch["captions"]] == batch["labels"].tolist()


def test_what_is_no_caption():
    images = np.zeros((2, 2, 2, 1), "uint8")
    for captions, message in [
        (["x"], "Captions are one for each picture. Received: 1 captions of 2 pictures"),
        ("xy", "one for each picture, in a list"),
        (["x", 3], "A caption is a text, or a list of texts.*Received: 3 as caption 1"),
        (["x", []], "A caption is a text"),
    ]:
        with pytest.raises(ValueError, match=message):
            data.load({"images": images, "captions": captions}, batch_size=2)
    with pytest.raises(ValueError, match="captions=True is for data with captions.*A template such as"):
        data.load(images, batch_size=2, captions=True)
    with pytest.raises(ValueError, match="whose classes have no names"):
        data.load(images, batch_size=2, captions="a {}")
    for template in ("a digit", [], 3):
        with pytest.raises(ValueError, match="is a template such as|must be"):
            data.load("digits", captions=template)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metadata.jsonl", b"[1]", "line 1 of .*metadata.jsonl should be a JSON object"),
        ("metadata.jsonl", b'{"file_name": "a.png"}', "A row of metadata.jsonl has .file_name. and one of text"),
        ("metadata.jsonl", b'\n{"file_name": "a.png", "text": 3}', "Received: 3 as line 2 of"),
        ("metadata.jsonl", b"\xff\xfe{}", "is in UTF-8"),
        ("metadata.csv", b"name,text\na.png,x", "has .file_name. and one of.*Received: line 2"),
        ("metadata.csv", b'file_name,text\na.png,"x', "Cannot read line 2 of the table"),
        ("metadata.jsonl", b"[" * 10_000, "text_depth"),
    ],
)
def test_damaged_tables(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / name)


def test_a_table_that_is_too_large(tmp_path):
    (tmp_path / "metadata.csv").write_text("file_name,text\n" + "a.png,x\n" * 100)
    with limits.raised(caption_bytes=200), pytest.raises(ValueError, match="caption_bytes"):
        read_table(tmp_path / "metadata.csv")


def test_a_caption_that_is_no_text_is_named(tmp_path):
    pictures(tmp_path)
    (tmp_path / "1.txt").write_bytes(b"\xff\xff")
    with pytest.raises(ValueError, match=r"Captions are texts in UTF-8. Received: .*1\.txt"):
        data.load(tmp_path, batch_size=4, captions=True)[0]
