"""The README's training example runs as it stands, and its tables name what exists."""

import re
from pathlib import Path

import pytest

import keras_diffusion as kd

pytestmark = pytest.mark.usefixtures("optimized")

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_training_example_runs(tmp_path, monkeypatch):
    example = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    assert len([line for line in example.splitlines() if line.strip()]) <= 15
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {"__name__": "__main__"})
    assert (tmp_path / "digits.png").stat().st_size > 500
    assert kd.DiffusionModel.from_preset(tmp_path / "digits-model").generate(1, num_steps=1).shape == (1, 8, 8, 1)


@pytest.mark.slow
def test_the_examples_of_steering_run(capsys):
    import numpy as np

    model = kd.DiffusionModel(kd.networks.UNet((8, 8, 1), widths=(8,), num_res_blocks=1, num_classes=10), seed=0)
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1)).astype("uint8")
    example = README[README.index("### Steering") :]
    code = re.search(r"```python\n(.*?)```", example, re.DOTALL).group(1)
    names = {"model": model, "images": images, "mask": np.ones((8, 8, 1)) * (np.arange(8) < 4)[:, None, None]}
    exec(compile(code, "README.md", "exec"), names)
    assert names["latents"].shape == (4, 8, 8, 1) and len(capsys.readouterr().out.splitlines()) == 50


def test_the_sampler_table_names_every_sampler():
    table = README[README.index("### Samplers") : README.index("## Coming from FlaxDiff")]
    assert set(re.findall(r"`([a-z0-9_]+)`", table)) >= set(kd.samplers.SAMPLERS.names())


def test_pictures_exist():
    for path in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (Path(__file__).parent.parent / path).is_file(), path
