"""The readers where neither TensorFlow nor tf_keras can be imported, and that no code of a file runs."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "tf_keras", "keras_cv", "tensorstore", "h5py"):
            raise ImportError(f"{name} is blocked")

import keras, h5py  # Keras itself needs h5py, these readers do not
sys.meta_path.insert(0, Blocked())
from pathlib import Path
import hashlib
from keras_diffusion.containers import open_container

for path in sys.argv[2:]:
    with open_container(Path(sys.argv[1]) / path) as container:
        for root in container.roots:
            layers = [map(container.read, layer.weights.values()) for layer in container.layers(root)]
            weights = [sorted((str(array.shape), array.tobytes()) for array in layer) for layer in layers]
            print(path, root or "-", hashlib.sha256(repr(weights).encode()).hexdigest())
assert not {"tensorflow", "tf_keras"} & set(sys.modules)
"""
DDPM = ["weights.h5", "model.h5", "model.keras", "tf_checkpoint", "train_checkpoint", "saved_model"]
DDIM = ["network_weights.h5", "ema_weights.h5", "ema_model.h5", "ema_model.keras", "tf_checkpoint", "saved_model"]


@pytest.mark.slow
def test_every_golden_file_without_tensorflow(keras2):
    paths = [f"ddpm_unet/{name}" for name in DDPM] + [f"ddim_residual_unet/{name}" for name in DDIM]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(keras2), *paths],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    digests = {tuple(line.split()[:2]): line.split()[2] for line in result.stdout.splitlines()}
    ddpm = {digest for (path, _), digest in digests.items() if path.startswith("ddpm")}
    ema = {
        digest
        for (path, root), digest in digests.items()
        if path.startswith("ddim") and ("ema" in path or root == "ema_network")
    }
    raw = {
        digest for (path, root), digest in digests.items() if path.endswith("network_weights.h5") or root == "network"
    }
    assert len(digests) == len(paths) + 2
    assert [len(ddpm), len(ema), len(raw)] == [1, 1, 1]
    assert len(ddpm | ema | raw) == 3


READERS = sorted((ROOT / "keras_diffusion" / "checkpoints" / "containers").glob("*.py"))


@pytest.mark.parametrize("path", READERS, ids=lambda path: path.name)
def test_readers_use_nothing_that_runs_code_of_a_file(path):
    allowed = {
        "bisect",
        "collections",
        "copy",
        "hashlib",
        "io",
        "json",
        "keras_diffusion",
        "math",
        "numpy",
        "pathlib",
        "re",
        "struct",
        "typing",
        "zipfile",
        "zlib",
    }
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert {alias.name for alias in node.names} <= allowed
        elif isinstance(node, ast.ImportFrom):
            assert node.module.split(".")[0] in allowed
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec", "compile", "__import__")
        elif isinstance(node, ast.Attribute):
            assert node.attr not in ("load", "fromfile", "loadtxt")  # NumPy's own formats can hold pickles
