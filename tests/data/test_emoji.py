import tomllib
from pathlib import Path

import numpy as np

from keras_diffusion import data
from keras_diffusion.cli.building import resolve
from keras_diffusion.cli.config import read_config
from keras_diffusion.data.emoji import PATH

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "emoji.toml"


def test_pictures_classes_and_captions():
    source = data.load("emoji", split="all").source
    everything = source.batch(np.arange(len(source)))
    assert everything["images"].shape == (1892, 32, 32, 3) and everything["images"].dtype == np.uint8
    assert np.bincount(everything["labels"]).tolist() == [169, 381, 159, 131, 218, 85, 264, 224, 261]
    assert source.num_classes == 9 and source.class_names[0] == "Smileys & Emotion" and len(source.captions) == 1892
    assert (everything["images"][:, 0, 0] == 255).mean() > 0.9, "corners are white"
    apple = everything["images"][source.captions.index("red apple")].astype(int)
    red = (apple[..., 0] > 150) & (apple[..., 1] < 100)
    assert red.mean() > 0.3 and source.class_names[source.labels[source.captions.index("red apple")]] == "Food & Drink"


def test_held_out_emoji_never_leak_and_keep_their_captions():
    train, held_out = data.load("emoji", batch_size=32), data.load("emoji", split="validation", batch_size=32, seed=3)
    assert (len(train.source), len(held_out.source)) == (1704, 188)
    shares = np.bincount(held_out.source.labels) / np.bincount(data.load("emoji", split="all").source.labels)
    assert 0.09 < shares.min() and shares.max() < 0.11
    pictures = [{p.tobytes() for p in b.source.batch(np.arange(len(b.source)))["images"]} for b in (train, held_out)]
    assert len(pictures[0]) == 1704 and not pictures[0] & pictures[1]
    file = np.load(PATH)
    place = file["captions"].tolist().index(held_out.source.captions[7])
    np.testing.assert_array_equal(held_out.source[7]["images"], file["images"][place])
    small = data.load("emoji", image_size=16, batch_size=8)
    assert small[0]["images"].shape == (8, 16, 16, 3) and small.source.captions == train.source.captions


def test_the_file_is_small_and_part_of_the_package_with_its_licences():
    assert PATH.stat().st_size < 4e6
    notice = PATH.with_name("README.md").read_text(encoding="utf-8")
    for what in (
        "Noto Emoji",
        "Apache License 2.0",
        "Cal Henderson",
        "Permission is hereby granted",
        "UNICODE LICENSE V3",
    ):
        assert what in notice
    assert "Version 2.0, January 2004" in PATH.with_name("LICENSE-Apache-2.0.txt").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["setuptools"]["package-data"]["keras_diffusion"] == ["data/emoji_files/*"]
    assert all((ROOT / name).is_file() for name in project["project"]["license-files"])


def test_the_example_of_the_command_line():
    resolved, train, validation = resolve(read_config(EXAMPLE))
    assert (len(train.source), len(validation.source)) == (1704, 188)
    assert resolved["data"]["captions"] is True and resolved["network"]["context_dim"] == 96
    assert resolved["network"]["input_shape"] == [32, 32, 3] and resolved["data"]["source"] == "emoji"
