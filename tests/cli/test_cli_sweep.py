import json

import numpy as np
import pytest
from command_line import run

import keras_diffusion as kd


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A preset of points in the plane, and a file of data for it."""
    folder = tmp_path_factory.mktemp("sweep")
    kd.keras.utils.set_random_seed(0)
    model = kd.DiffusionModel(kd.networks.MLP((2,), width=8, depth=1, num_classes=3), seed=0)
    model.save_to_preset(folder / "points")
    rng = np.random.default_rng(0)
    np.savez(folder / "data.npz", images=rng.uniform(-1, 1, (80, 2)).astype("float32"), labels=np.arange(80) % 3)
    return folder / "points", folder / "data.npz"


@pytest.mark.slow
def test_a_table_a_plot_and_numbers(preset, tmp_path):
    pytest.importorskip("matplotlib")
    ways = ["--samplers", "ddim,heun", "--steps", "2,3", "--guidance", "1,2", "--num-samples", 40]
    result = run("sweep", preset[0], "--data", preset[1], *ways, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "8 ways to sample" in result.output and "Best: MIND" in result.output
    table = (tmp_path / "out" / "sweep.md").read_text()
    assert len(table.splitlines()) == 2 + 8 + 1 and "| heun | 3 | 2 | 10 |" in table and "floor: real against" in table
    found = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert [cell["evaluations"] for cell in found["cells"]] == [2, 3, 3, 5, 4, 6, 6, 10]
    assert "<svg" in (tmp_path / "out" / "sweep.svg").read_text()
    assert (tmp_path / "out" / "sweep.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize(
    "options, message",
    [
        (["--samplers", "dim"], "Unknown sampler"),
        (["--steps", "4,many"], "--steps takes numbers with commas between. Received: 'many'"),
        (["--steps", "0"], "--steps"),
        (["--guidance", "w"], "--guidance takes numbers"),
        (["--metric", "mint"], "Unknown metric"),
        (["--samplers", "ddim"], "no --data"),
    ],
)
def test_errors_are_one_line(preset, options, message):
    result = run("sweep", preset[0], *options)
    assert result.exit_code == 2 and message in result.output and "Traceback" not in result.output
