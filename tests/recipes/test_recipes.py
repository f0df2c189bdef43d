"""The recipes of the two Keras examples, in their quick form."""

import importlib.util
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("optimized")

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddpm", "ddim"])
def test_trains_samples_and_saves(name, tmp_path):
    pytest.importorskip("sklearn")
    spec = importlib.util.spec_from_file_location(f"{name}_keras_example", RECIPES / f"{name}_keras_example.py")
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    history = recipe.main(["--quick", "--epochs", "2", "--out", str(tmp_path)])
    assert history["loss"][1] < 0.9 * history["loss"][0]
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / f"{name}.keras").stat().st_size > 10_000
