"""Damaged files of Flax, diffusers, PyTorch and EDM: cut at random places, or with one bit flipped. They load as
before, raise `CheckpointError`, or, where the format has no checksums, differ in numbers or names only.

KERAS_DIFFUSION_FUZZ=2000 tries as many cases per container; the default is a part of these.
"""

import hashlib
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from keras_diffusion.checkpoints import CheckpointError
from keras_diffusion.containers import open_container

ROOT = Path(__file__).parents[2]
TINY = Path(__file__).parents[1] / "golden" / "tiny_weights"
CASES = int(os.environ.get("KERAS_DIFFUSION_FUZZ", "200"))
NAMES = ["aggregated", "flax_model.msgpack", "chunked.msgpack", "pipeline", "model.pt", "legacy.pt", "edm.pkl"]


def content(path):
    with open_container(path) as container:
        for root in container.roots:
            container.layers(root), container.config_of(root)
        repr(container.metadata)
        return {name: (container.read(name).shape, container.read(name).tobytes()) for name in container.tensors}


def copied(name, folder):
    copy = folder / name
    folder.mkdir(exist_ok=True)
    (shutil.copytree if (TINY / name).is_dir() else shutil.copy)(TINY / name, copy)
    return copy


def outcomes(opened, cases):
    """What became of damaged copies: how many were refused, and what was done to those with other content."""
    expected, others, refused = content(opened), [], 0
    files = sorted(path for path in opened.rglob("*") if path.is_file()) if opened.is_dir() else [opened]
    sizes = [path.stat().st_size for path in files]
    for seed in range(cases):
        chance = random.Random(seed)
        path = chance.choices(files, [max(size, sum(sizes) // 8) for size in sizes])[0]
        original = path.read_bytes()
        place, cut = chance.randrange(len(original)), seed % 4 == 0
        changed = bytearray(original[:place] if cut else original)
        if not cut:
            changed[place] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        done = f"{path.name} {'cut' if cut else 'flipped'} at {place}, seed {seed}"
        try:
            if content(opened) != expected:
                others.append(done)
        except CheckpointError as error:
            assert error.path is not None, done
            refused += 1
        except Exception as error:
            pytest.fail(f"{done}: {type(error).__name__}: {error}")
        path.write_bytes(original)
    return refused, others


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_damage(name, tmp_path):
    refused, others = outcomes(copied(name, tmp_path), CASES)
    assert refused > CASES // 10
    assert not any(" cut " in done for done in others)
    if name == "model.pt":  # the numbers have checksums, and so has the pickle
        assert others == []


@pytest.mark.slow
def test_damage_of_a_store(tmp_path):
    pytest.importorskip("tensorstore")
    refused, others = outcomes(copied("ocdbt", tmp_path), max(CASES // 2, 1))
    assert refused > CASES // 20
    assert not any(" cut " in done for done in others)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flax_model.msgpack", "edm.pkl"])
def test_a_checksum_beside_the_file_finds_everything(name, tmp_path):
    opened = copied(name, tmp_path)
    opened.with_name(name + ".sha256").write_text(f"{hashlib.sha256(opened.read_bytes()).hexdigest()}  {name}\n")
    assert outcomes(opened, CASES // 4)[1] == []


def test_checksums_beside_the_files_of_a_store_and_of_a_pipeline(tmp_path):
    pytest.importorskip("tensorstore")
    for number, (name, damaged) in enumerate(
        (("ocdbt", "d/*"), ("pipeline", "vae/*.safetensors"), ("pipeline", "unet/config.json"))
    ):
        opened = copied(name, tmp_path / str(number))
        for file in [path for path in opened.rglob("*") if path.is_file()]:
            file.with_name(file.name + ".sha256").write_text(hashlib.sha256(file.read_bytes()).hexdigest())
        content(opened)
        file = next(path for path in opened.rglob(damaged) if path.suffix != ".sha256")
        file.write_bytes(file.read_bytes()[:-1] + b" ")
        with pytest.raises(CheckpointError, match="SHA-256"):
            content(opened)


PROGRAM = """
import sys

blocked = {"flax", "orbax", "torch", "tensorflow", "msgpack", "safetensors", "diffusers", "tf_keras"}

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ImportError(f"{name} is blocked")

import keras
sys.meta_path.insert(0, Blocked())
from pathlib import Path
from keras_diffusion.containers import open_container

for path in sys.argv[2:]:
    with open_container(Path(sys.argv[1]) / path) as container:
        print(path, sum(container.read(name).size for name in container.tensors))
"""


@pytest.mark.slow
def test_no_package_of_the_writers_is_needed():
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, str(TINY), *NAMES, "ocdbt"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stderr[-2000:]
    assert len(result.stdout.splitlines()) == len(NAMES) + 1
