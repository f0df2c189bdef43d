"""Full-size networks of KerasCV: the numbers are the same, and a file of 3.4 GB loads without a second copy of it in
memory.
"""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from keras import ops
from keras_cv_full import CLASSES
from keras_cv_models import SMALL, randomize, values, write

from keras_diffusion import checkpoints

TESTS = Path(__file__).parent.parent


def run(*arguments):
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    command = [sys.executable, str(TESTS / "keras_cv_full.py"), *map(str, arguments)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("component", ["diffusion_model", "text_encoder", "image_encoder", "decoder"])
def test_full_size(component, tmp_path):
    pytest.importorskip("keras_cv")
    if not os.environ.get("KERAS_DIFFUSION_FULL_SIZE"):
        pytest.skip("minutes each; KERAS_DIFFUSION_FULL_SIZE=1 runs all")
    try:
        run("write", component, tmp_path)
        size = (tmp_path / f"{component}.h5").stat().st_size
        measured = run("load", component, tmp_path).replace("\r", "\n").strip().split("\n")[-1]
    finally:
        (tmp_path / f"{component}.h5").unlink(missing_ok=True)
    result = json.loads(measured)
    assert result["error"] < 1e-4 and result["spread"] > 1e-3
    if component == "diffusion_model":
        assert size > 3.4e9 and result["memory"] < 2.2


@pytest.mark.slow
@pytest.mark.parametrize(
    "component", ["diffusion_model_1", "diffusion_model_2", "text_encoder_1", "image_encoder", "decoder"]
)
def test_weights_files_of_keras_3(component, tmp_path):
    """KerasCV under Keras 3 writes `.weights.h5`, where weights are sorted by name."""
    stable_diffusion = pytest.importorskip("keras_cv.src.models.stable_diffusion")
    for module in {module for module, _ in CLASSES.values()}:
        importlib.import_module(f"keras_cv.src.models.stable_diffusion.{module}")
    model = randomize(SMALL[component](stable_diffusion))
    model.save_weights(tmp_path / "some.weights.h5")
    config = {} if component in ("image_encoder", "decoder") else {"num_heads": 2}
    config = {**config, "head_dim": None} if component == "diffusion_model_2" else config
    network = checkpoints.load(tmp_path / "some.weights.h5", config=config).network
    for weight, expected in zip(network.weights, load_small(component, tmp_path, config).weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), ops.convert_to_numpy(expected))


def load_small(component, folder, config):
    """The network of the same weights in a file of Keras 2."""
    layout = json.loads(str(np.load(TESTS / "golden" / "keras_cv.npz")["layouts"]))[component]
    return checkpoints.load(write(layout, values(layout), folder / "keras_2.h5"), config=config).network
