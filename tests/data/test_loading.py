import importlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from keras_diffusion import data


def test_digits():
    pytest.importorskip("sklearn")
    train, test = data.load("digits", batch_size=32, seed=1), data.load("digits", split="test", batch_size=32)
    assert train.image_shape == (8, 8, 1) and train.num_classes == 10 and train.class_names[3] == "3"
    assert (len(train.source), len(test.source)) == (1438, 359)
    batch = train[0]
    assert batch["images"].shape == (32, 8, 8, 1) and batch["images"].min() == -1.0 and batch["images"].max() == 1.0
    assert set(np.unique(batch["labels"])) <= set(range(10))
    counts = np.bincount(test.source.labels)
    assert counts.min() >= 34 and counts.max() <= 37
    assert sum(len(b["labels"]) for b in test) == 359, "evaluation must see every sample"


def test_held_out_digits_never_leak_whatever_the_seeds():
    pytest.importorskip("sklearn")
    train = {b.tobytes() for b in data.load("digits", seed=5).source.batch(np.arange(1438))["images"]}
    test = {b.tobytes() for b in data.load("digits", split="test", seed=9).source.batch(np.arange(359))["images"]}
    whole = data.load("digits", split="all")
    assert len(whole.source) == 1797
    assert not train & test


def test_training_and_evaluation_defaults():
    images = np.zeros((10, 2, 2, 1), "uint8")
    train = data.load(images, batch_size=4, validation_fraction=0.3)
    held_out = data.load(images, split="validation", batch_size=4, validation_fraction=0.3)
    assert (train.shuffle, train.drop_remainder) == (True, True)
    assert (held_out.shuffle, held_out.drop_remainder) == (False, False)
    assert len(train.source) == 7 and len(held_out.source) == 3
    assert data.load(images, batch_size=4, shuffle=False, horizontal_flip=True).shuffle is False


def test_arrays_and_files(tmp_path):
    arrays = {"images": np.arange(16, dtype="uint8").reshape(4, 2, 2, 1), "labels": np.array([0, 1, 2, 0])}
    np.savez(tmp_path / "d.npz", **arrays)
    np.save(tmp_path / "d.npy", arrays["images"])
    options = {"batch_size": 2, "shuffle": False}
    expected = data.load(arrays, **options)[1]
    from_npz = data.load(tmp_path / "d.npz", **options)
    np.testing.assert_array_equal(from_npz[1]["images"], expected["images"])
    np.testing.assert_array_equal(from_npz[1]["labels"], expected["labels"])
    from_npy = data.load(str(tmp_path / "d.npy"), **options)
    np.testing.assert_array_equal(from_npy[1]["images"], expected["images"])
    assert isinstance(from_npy.source.arrays["images"], np.memmap)


def test_points_are_not_held_to_the_range_of_pictures():
    assert data.load(np.full((8, 2), 5.0), batch_size=4)[0]["images"].shape == (4, 2)


@pytest.fixture
def folder(tmp_path):
    for split, n in (("train", 3), ("test", 2)):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(n):
                Image.new("RGB", (10 + i, 6), (i, i, i)).save(tmp_path / split / name / f"{i}.png")
    return tmp_path


def test_image_folder(folder):
    batches = data.load(str(folder / "train"), image_size=(4, 8), batch_size=3, channels=1)
    assert batches.image_shape == (4, 8, 1) and batches.num_classes == 2 and batches.class_names == ["a", "b"]
    assert batches[0]["images"].dtype == np.float32 and batches[0]["images"].shape == (3, 4, 8, 1)
    assert (
        len(data.load(folder / "train", image_size=4, batch_size=1, split="test", validation_fraction=0.34).source) == 2
    )


def test_image_folder_with_splits(folder):
    assert len(data.load(folder, image_size=4, batch_size=2).source) == 6
    assert len(data.load(folder, image_size=4, batch_size=2, split="test").source) == 4
    with pytest.raises(ValueError, match="has the splits test, train. Received: split='validation'"):
        data.load(folder, split="validation")
    with pytest.raises(ValueError, match="validation_fraction is for sources without splits"):
        data.load(folder, validation_fraction=0.1)


def test_images_of_different_size_need_image_size(folder):
    with pytest.raises(ValueError, match="Pass image_size"):
        data.load(folder, batch_size=6)[0]


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("./nowhere", {}, r"Received: source='./nowhere', which does not exist"),
        (np.zeros((4, 2, 2, 1), "uint8"), {"split": "test"}, r"nothing held out.*Pass validation_fraction"),
        (np.zeros((4, 2, 2, 1), "uint8"), {"split": "tset"}, r"knows 'train', .* Received: split='tset'"),
        (np.zeros((4, 2, 2, 1), "uint8"), {"image_size": (0, 3)}, r"image_size must be a positive int"),
        (np.zeros((4, 2, 2, 1), "uint8"), {"channels": 1}, r"channels= is for image folders"),
        (np.full((4, 2, 2, 1), np.nan), {}, r"NaN or infinity in sample 0"),
        (
            {"images": np.zeros((2, 2, 2, 1), "uint8"), "labels": [0, 7]},
            {"num_classes": 5},
            r"\[0, 5\). Received: label 7 of sample 1",
        ),
    ],
)
def test_bad_arguments(source, options, message):
    with pytest.raises(ValueError, match=message):
        data.load(source, **options)


def test_file_of_another_kind(tmp_path):
    (tmp_path / "d.dat").write_text("1,2")
    with pytest.raises(ValueError, match=r"none of these"):
        data.load(str(tmp_path / "d.dat"))


def test_damaged_array_file(tmp_path):
    (tmp_path / "d.npz").write_bytes(b"PK broken")
    with pytest.raises(ValueError, match=r"Cannot read the arrays in '.*d\.npz'"):
        data.load(tmp_path / "d.npz")


def test_missing_packages_name_their_extra(monkeypatch):
    real = importlib.import_module

    def without(name, *args):
        if name.split(".")[0] in ("sklearn", "tensorflow_datasets"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ImportError, match=r"keras-diffusion\[demo\]"):
        data.load("digits")
    with pytest.raises(ImportError, match=r"'no_such_data'.*keras-diffusion\[data\].*Known: 'digits'"):
        data.load("no_such_data")


@pytest.mark.slow
def test_import_adds_no_optional_package_to_those_that_keras_imports_itself():
    code = (
        "import sys, keras; names = ('sklearn', 'PIL', 'matplotlib', 'tensorflow_datasets'); "
        "before = [n for n in names if n in sys.modules];"
        "import keras_diffusion.data; print([n for n in names if n in sys.modules] == before)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        .stdout.strip()
        .endswith("True")
    )


def test_options_of_data_sets_of_keras():
    images = np.zeros((8, 4, 4, 1), "uint8")
    made = data.load(images, batch_size=4, workers=2, max_queue_size=3)
    assert (made.workers, made.max_queue_size) == (2, 3)
    with pytest.raises(ValueError, match="`workers` must be an integer ≥ 0. Received: workers=-3"):
        data.load(images, batch_size=4, workers=-3)
    with pytest.raises(ValueError, match="Received: 'worker'=2. Did you mean 'workers'?") as error:
        data.load(images, batch_size=4, worker=2)
    assert str(error.value).count("batch_size") == 1 and " options," not in str(error.value)
