"""TensorFlow Datasets, on a tiny data set built here; building needs TensorFlow, reading must not."""

import os
import subprocess
import sys

import numpy as np
import pytest

from keras_diffusion import data

pytestmark = pytest.mark.slow
pytest.importorskip("tensorflow")
tfds = pytest.importorskip("tensorflow_datasets")


class TinyFlowers(tfds.core.GeneratorBasedBuilder):
    """Pictures of two classes and two sizes; the grey value is the number of the picture."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["daisy", "rose"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(10), "test": self._generate_examples(4)}

    def _generate_examples(self, n):
        for i in range(n):
            yield i, {"image": np.full((6 + i % 2, 8, 3), i, "uint8"), "label": i % 2}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("tfds")
    TinyFlowers(data_dir=path, file_format="array_record").download_and_prepare()
    return path


def test_by_name(data_dir):
    train = data.load("tiny_flowers", data_dir=data_dir, image_size=(6, 4), batch_size=5)
    assert (train.num_classes, train.class_names, train.image_shape) == (2, ["daisy", "rose"], (6, 4, 3))
    greys, labels = [], []
    for batch in train:
        assert set(batch) == {"images", "labels"} and batch["images"].shape == (5, 6, 4, 3)
        greys += np.round((batch["images"][:, 0, 0, 0] + 1) * 127.5).astype(int).tolist()
        labels += batch["labels"].tolist()
    assert sorted(greys) == list(range(10))
    assert labels == [g % 2 for g in greys]


def test_splits(data_dir):
    assert len(data.load("tiny_flowers", split="test", data_dir=data_dir, image_size=4).source) == 4
    assert (
        len(data.load("tiny_flowers", split="train[:50%]", data_dir=data_dir, image_size=4, batch_size=2).source) == 5
    )


def test_by_folder_without_importing_tensorflow(data_dir):
    folder = str(data_dir / "tiny_flowers" / "1.0.0")
    code = (
        f"import sys, keras_diffusion.data as d; b = d.load({folder!r}, image_size=4, batch_size=2);"
        "print(b[0]['images'].shape, 'tensorflow' in sys.modules)"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip().splitlines()[-1] == "(2, 4, 4, 3) False"


def test_label_key_none_drops_the_labels(data_dir):
    assert set(data.load("tiny_flowers", data_dir=data_dir, image_size=4, batch_size=2, label_key=None)[0]) == {
        "images"
    }


def test_unknown_feature(data_dir):
    with pytest.raises(ValueError, match=r"has no feature 'picture'. Its features: image, label"):
        data.load("tiny_flowers", data_dir=data_dir, image_key="picture")


def test_unknown_split(data_dir):
    with pytest.raises(ValueError, match=r"cannot give split='nope'.*train"):
        data.load("tiny_flowers", split="nope", data_dir=data_dir)


def test_validation_fraction_is_refused(data_dir):
    with pytest.raises(ValueError, match=r"split='train\[:80%\]'"):
        data.load("tiny_flowers", data_dir=data_dir, validation_fraction=0.1)


def test_not_prepared_tells_the_call(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"not prepared under .*download=True.*tfds.builder\('tiny_flowers', data_dir='.*', "
        r"file_format=\"array_record\"\)",
    ):
        data.load("tiny_flowers", data_dir=tmp_path)


def test_download_prepares(tmp_path):
    assert len(data.load("tiny_flowers", data_dir=tmp_path, download=True, image_size=4, batch_size=2).source) == 10


def test_wrong_file_format_tells_the_call(tmp_path):
    TinyFlowers(data_dir=tmp_path, file_format="tfrecord").download_and_prepare()
    with pytest.raises(
        ValueError,
        match=r"prepared as tfrecord.*data_dir='another/folder', file_format=\"array_record\"\).download_and_prepare",
    ):
        data.load("tiny_flowers", data_dir=tmp_path)


@pytest.mark.parametrize("name, meant", [("tiny_flowerz", "tiny_flowers"), ("digit", "digits"), ("no such name", None)])
def test_unknown_name_lists_what_is_known(name, meant, tmp_path):
    with pytest.raises(
        ValueError,
        match=rf"Unknown data source: '{name}' .* Known: 'digits', .* 'shapes', arrays .* 'oxford_flowers102'",
    ) as error:
        data.load(name, data_dir=tmp_path)
    hint = f". Did you mean {meant!r}?" if meant else ""
    assert str(error.value).endswith(f"Received: source={name!r}{hint}")
