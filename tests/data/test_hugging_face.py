"""Hugging Face data sets that the tests make themselves; nothing is downloaded."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_diffusion import data
from keras_diffusion.data.hugging_face import HuggingFaceSource
from keras_diffusion.runtime.limits import raised

pytestmark = pytest.mark.slow
datasets = pytest.importorskip("datasets")
datasets.disable_progress_bars()

FEATURES = {
    "image": datasets.Image(),
    "caption": datasets.List(datasets.Value("string")),
    "label": datasets.ClassLabel(names=["cat", "dog"]),
}


def png(value, mode="RGB"):
    file = io.BytesIO()
    Image.new(mode, (4, 6), value if mode == "L" else (value,) * len(mode)).save(file, "PNG")
    return file.getvalue()


def pets(n=10, first=0, **columns):
    """Grey pictures whose value is their number times ten."""
    numbers = range(first, first + n)
    rows = {
        "image": [{"bytes": png(10 * i), "path": f"/nowhere/{i}.png"} for i in numbers],
        "caption": [[f"pet {i}", f"no. {i}"][: 1 + i % 2] for i in numbers],
        "label": [i % 2 for i in numbers],
        **columns,
    }
    return datasets.Dataset.from_dict(rows, datasets.Features({name: FEATURES[name] for name in rows}))


def greys(batches):
    return np.round(np.concatenate([(b["images"][:, 0, 0, 0] + 1) * 12.75 for b in batches])).astype(int).tolist()


def test_an_object():
    batches = data.load(pets(), batch_size=5, shuffle=False, captions=True)
    assert (batches.class_names, batches.num_classes, batches.image_shape) == (["cat", "dog"], 2, (6, 4, 3))
    assert greys(batches) == list(range(10)) and batches[0]["labels"].tolist() == [0, 1, 0, 1, 0]
    texts = [text for batch in batches for text in batch["captions"]]
    assert all(text in (f"pet {i}", f"no. {i}") for i, text in enumerate(texts)) and len(set(texts)) == 10
    assert batches.source.captions[:2] == ["pet 0", ("pet 1", "no. 1")] and len(batches.all_captions()) == 15
    assert data.load(pets(), batch_size=5, channels=1)[0]["images"].shape == (5, 6, 4, 1)
    assert set(data.load(pets(), batch_size=5, label_key=None)[0]) == {"images"}


def test_selected_and_shuffled_objects_keep_captions_beside_pictures():
    source = HuggingFaceSource(pets().shuffle(seed=3).select(range(6)))
    for i in range(6):
        number = int(source[i]["images"][0, 0, 0]) // 10
        assert source.texts([i])[0][0] == f"pet {number}" and source[i]["labels"] == number % 2


def test_splits():
    parts = datasets.DatasetDict({"train": pets(), "test": pets(4, first=10)})
    options = {"batch_size": 2, "shuffle": False, "drop_remainder": False}
    assert greys(data.load(parts, **options)) == list(range(10))
    assert greys(data.load(parts, split="test", **options)) == list(range(10, 14))
    assert len(data.load(parts, split="all", **options).source) == 14
    held_out = greys(data.load(parts, split="validation", validation_fraction=0.2, **options))
    kept = greys(data.load(parts, validation_fraction=0.2, **options))
    assert len(held_out) == 2 and sorted(held_out + kept) == list(range(10))
    with pytest.raises(ValueError, match="has the splits train, test. Received: split='validation'"):
        data.load(parts, split="validation")
    with pytest.raises(ValueError, match="nothing held out"):
        data.load(pets(), split="validation")


@pytest.mark.parametrize("several", [False, True])
def test_saved_folders(tmp_path, several):
    saved = datasets.DatasetDict({"train": pets()}) if several else pets()
    saved.save_to_disk(tmp_path / "pets")
    options = {"batch_size": 5, "shuffle": False}
    assert greys(data.load(tmp_path / "pets", **options)) == list(range(10))
    state = next((tmp_path / "pets").rglob("state.json"))
    state.write_text(state.read_text().replace("data-00000", "../data-00000"))
    with pytest.raises(ValueError, match="files of a saved data set lie in its folder. Received: filename='../data"):
        data.load(str(tmp_path / "pets"), **options)
    state.write_text("{")
    with pytest.raises(ValueError, match="state.json"):
        data.load(str(tmp_path / "pets"), **options)


def test_folders_of_splits_lie_in_the_folder(tmp_path):
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["../train"]}))
    with pytest.raises(ValueError, match="names of folders in it"):
        data.load(tmp_path)


def test_files_that_a_table_names_are_read_only_for_objects_of_ones_own(tmp_path):
    (tmp_path / "secret.png").write_bytes(png(70))
    table = pets(1, image=[{"bytes": None, "path": str(tmp_path / "secret.png")}])
    assert greys(data.load(table, batch_size=1)) == [7]
    with pytest.raises(ValueError, match="paths in a table are not opened. Received: sample 0 without them"):
        HuggingFaceSource(table, folders=[tmp_path / "other"])[0]
    with pytest.raises(ValueError, match="paths in a table are not opened"):
        HuggingFaceSource(table)[0]


def test_the_hub(monkeypatch):
    asked = []

    def load_dataset(*args, **options):
        asked.append((args, options))
        return pets()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert len(data.load("hf://user/pets:small", split="train[:80%]", batch_size=2).source) == 10
    assert asked == [(("user/pets", "small"), {"split": "train[:80%]", "streaming": False})]
    data.load("hf://pets", split="test", validation_fraction=0.2, batch_size=1)
    assert asked[1] == (("pets", None), {"split": "train", "streaming": False})
    for name in ("hf://", "hf://../pets", "hf://a/b/c", "hf://user/pets:../x", "hf:///etc"):
        with pytest.raises(ValueError, match="named hf://user/name"):
            data.load(name)

    def fails(*args, **options):
        raise FileNotFoundError("Dataset 'user/none' doesn't exist on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", fails)
    with pytest.raises(OSError, match="Cannot load 'hf://user/none' with split='train': .*doesn't exist"):
        data.load("hf://user/none")


def test_other_columns():
    table = pets().rename_columns({"image": "img", "caption": "description", "label": "kind"})
    batch = data.load(table, batch_size=3, caption_key="description", label_key="kind", captions=True)[0]
    assert set(batch) == {"images", "labels", "captions"}
    assert set(data.load(table, batch_size=3)[0]) == {"images"}
    with pytest.raises(ValueError, match="image_key='picture' for .* with the columns img, description, kind"):
        data.load(table, image_key="picture")
    with pytest.raises(ValueError, match="Labels are integers from 0. Received: 'pet 0'"):
        data.load(pets().add_column("name", [f"pet {i}" for i in range(10)]), label_key="name")


def test_a_transform_would_not_be_applied():
    with pytest.raises(ValueError, match="Received: one with a transform of its own, which would not be applied"):
        data.load(pets().with_transform(lambda rows: rows))


def test_test_sets_without_labels():
    assert set(data.load(pets(label=[-1] * 10), batch_size=2)[0]) == {"images"}


def test_arrays_and_broken_pictures():
    rows = {"image": np.arange(24, dtype="uint8").reshape(2, 2, 2, 3).tolist(), "text": ["a", None]}
    table = datasets.Dataset.from_dict(rows)
    batch = data.load(table, batch_size=2, captions=True, shuffle=False)[0]
    np.testing.assert_allclose(batch["images"].ravel(), np.arange(24) / 127.5 - 1, atol=1e-6)
    assert batch["captions"].tolist() == ["a", ""]
    broken = pets(3, image=[{"bytes": content, "path": None} for content in (png(0), b"x", png(20))])
    with pytest.raises(ValueError, match="Cannot read the image 'sample 1'"):
        data.load(broken, batch_size=3)[0]
    with pytest.warns(UserWarning, match="left out"):
        assert greys(data.load(broken, batch_size=3, shuffle=False, on_error="skip")) == [0, 2, 2]


def test_the_hub_as_a_stream(monkeypatch):
    table = pets()
    table.info.splits = datasets.SplitDict({"train": datasets.SplitInfo("train", num_examples=10)})
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: table.to_iterable_dataset())
    batches = data.load("hf://user/pets", streaming=True, batch_size=5, captions=True, shuffle_buffer=4)
    assert isinstance(batches, data.StreamBatches) and batches.class_names == ["cat", "dog"]
    assert batches.source._length == 10, "it says so itself: nothing is counted"
    read = list(batches)
    assert sorted(greys(read)) == list(range(10)) != greys(read)
    assert [int(text.split()[1]) for b in read for text in b["captions"]] == greys(read)
    assert [int(label) for b in read for label in b["labels"]] == [i % 2 for i in greys(read)]


def test_folders_of_pictures_on_the_hub(tmp_path, monkeypatch):
    """Such a data set names its files: below the folder of downloads, or, as a stream, by their addresses."""
    hub = tmp_path / "hub"
    (hub / "pets").mkdir(parents=True)
    paths = [str(hub / "pets" / f"{i}.png") for i in range(4)]
    for i, path in enumerate(paths):
        Path(path).write_bytes(png(10 * i))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))

    def load_dataset(*args, streaming, **options):
        names = [f"hf://datasets/user/pets@main/{i}.png" for i in range(4)] if streaming else paths
        table = pets(4, image=[{"bytes": None, "path": name} for name in names])
        return table.to_iterable_dataset() if streaming else table

    fetched = []

    def fetch(address, mode):
        fetched.append(address)
        return (hub / "pets" / address.rpartition("/")[2]).open(mode)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr("fsspec.open", fetch)
    options = {"batch_size": 2, "shuffle": False}
    assert greys(data.load("hf://user/pets", **options)) == [0, 1, 2, 3] and not fetched
    stream = data.load("hf://user/pets:small", streaming=True, **options)
    stream.start = 1
    assert greys([stream[1]]) == [2, 3] and len(fetched) == 2, "what was seen before is not fetched again"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "other"))
    for name, streaming in (("hf://user/pets", False), ("hf://user/others", True)):
        with pytest.raises(ValueError, match="paths in a table are not opened"):
            data.load(name, streaming=streaming, **options)[0]
    with raised(packed_bytes=10), pytest.raises(ValueError, match=r"The size of hf://.*/2.png is above the limit"):
        stream[1]
