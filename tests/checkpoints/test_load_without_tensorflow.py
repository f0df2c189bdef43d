"""Every golden file loads, and computes what it should, where neither TensorFlow nor tf_keras can be imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "tf_keras", "keras_cv"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
from pathlib import Path
import numpy as np
from keras_diffusion import checkpoints

folder, errors = Path(sys.argv[1]), {}
for name in ("ddpm_unet", "ddim_residual_unet"):
    stored = np.load(folder / name / "io.npz")
    level = stored["time"] if name == "ddpm_unet" else stored["noise_variance"].reshape(-1)
    for file in sorted((folder / name).iterdir()):
        if file.suffix in (".json", ".npz"):
            continue
        loaded = checkpoints.load(file, verbose=0)
        kept = "ema" if loaded.report.weights == "ema" else "network"
        expected = stored["out" if name == "ddpm_unet" else f"out_{kept}"]
        output = np.asarray(loaded.network({"x": stored["image"], "noise_level": level.astype("float32")}))
        errors[f"{name}/{file.name}"] = float(np.abs(output - expected).max() / np.abs(expected).max())
assert not {"tensorflow", "tf_keras"} & set(sys.modules)
print(json.dumps(errors))
"""


@pytest.mark.slow
def test_every_golden_file(keras2):
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(Path(__file__).parents[2])}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(keras2)], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    errors = json.loads(result.stdout.splitlines()[-1])
    assert len(errors) == 12
    assert max(errors.values()) < 1e-4, errors
