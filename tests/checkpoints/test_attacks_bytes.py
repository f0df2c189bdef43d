"""Small files that ask for much: every way in refuses them in words, in a short time and with little memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SECONDS, MEGABYTES = 5, 500


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process cannot be reset here")
@pytest.mark.parametrize("kind", ["presets", "checkpoints", "data", "commands"])
def test_small_files_are_refused_soon_and_with_little_memory(kind, tmp_path):
    if kind == "data":
        pytest.importorskip("PIL")
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend(), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(HERE / "attack_run.py"), str(tmp_path), kind]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(results) > 20
    others = [
        result
        for result in results
        if result[1] not in ("refused", "no error") or result[2] > SECONDS or result[3] > MEGABYTES
    ]
    assert not others, "\n".join(map(str, others))
