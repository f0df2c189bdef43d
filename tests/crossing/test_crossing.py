"""What is saved on one backend loads on the others and computes the same numbers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = str(Path(__file__).with_name("exchange.py"))


def run(backend, mode, folder, *what):
    # Programs that run once: JAX optimizes them little, a quarter less to do.
    few = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment = {**os.environ, **few, "KERAS_BACKEND": backend}
    result = subprocess.run(
        [sys.executable, SCRIPT, mode, str(folder), *what], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


# Each writes weights and optimizers, and each reads another's. Configs are JSON and know no backend, so that those that
# JAX wrote stand for all.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("writer", "readers", "what"),
    [("jax", ("tensorflow",), ("parts",)), ("torch", ("jax",), ()), ("tensorflow", ("torch",), ())],
)
def test_saved_on_one_backend_equal_on_the_others(tmp_path, writer, readers, what):
    for backend in (writer, *readers):
        pytest.importorskip(backend)
    run(writer, "write", tmp_path, *what)
    for reader in readers:
        assert "objects agree" in run(reader, "read", tmp_path, *what)
