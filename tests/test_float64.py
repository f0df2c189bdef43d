"""The tests of the maths once more with float64 as Keras's float type, where the reference numbers are met to 1e-9 and
better.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

TESTS = Path(__file__).parent
ROOMS = [
    "core/test_gaussian.py",
    "schedulers",
    "samplers/test_multistep_golden.py",
    "samplers/test_pndm_golden.py",
    "samplers/test_ddim_golden.py",
    "samplers/test_sampler_golden.py",
    "samplers/test_singlestep_golden.py",
]


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "jax", reason="one backend is enough")
def test_maths_in_float64(tmp_path):
    # Keras takes its float type from a configuration file and has no environment variable for it.
    config = {"floatx": "float64", "epsilon": 1e-7, "backend": "jax", "image_data_format": "channels_last"}
    (tmp_path / "keras.json").write_text(json.dumps(config))
    environment = {**os.environ, "KERAS_BACKEND": "jax", "KERAS_HOME": str(tmp_path), "JAX_ENABLE_X64": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-m",
        "not slow",
        *(str(TESTS / room) for room in ROOMS),
    ]
    result = subprocess.run(command, env=environment, cwd=TESTS.parent, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert " passed" in result.stdout
