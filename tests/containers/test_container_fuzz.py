"""Damaged files: cut at random places, or with one bit flipped. They load as before, or raise `CheckpointError`.

KERAS_DIFFUSION_FUZZ=2000 tries as many cases per container; the default is a part of these.
"""

import hashlib
import os
import random
import shutil
from pathlib import Path

import pytest

from keras_diffusion.containers import open_container
from keras_diffusion.containers.errors import CheckpointError

TINY = Path(__file__).parents[1] / "golden" / "tiny_checkpoints"
CASES = int(os.environ.get("KERAS_DIFFUSION_FUZZ", "300"))


def content(path):
    """Everything that becomes weights: tensors, and which layer each belongs to."""
    with open_container(path) as container:
        tensors = {name: container.read(name).tobytes() for name in container.tensors}
        return tensors, [
            (root, layer.name, layer.weights) for root in container.roots for layer in container.layers(root)
        ]


def damaged(folder, seed):
    """Damages one of the files in `folder`, and gives back what was done and how to undo it."""
    chance = random.Random(seed)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".sha256")
    sizes = [path.stat().st_size for path in files]
    path = chance.choices(files, [max(size, sum(sizes) // 8) for size in sizes])[0]
    original = path.read_bytes()
    place, cut = chance.randrange(len(original)), seed % 4 == 0
    changed = bytearray(original[:place] if cut else original)
    if not cut:
        changed[place] ^= 1 << chance.randrange(8)
    path.write_bytes(changed)
    return f"{path.name} {'cut' if cut else 'flipped'} at {place}", cut, lambda: path.write_bytes(original)


def outcomes(folder, opened, cases):
    """What became of damaged files: a list of (what was done, whether it was a cut) for those that gave
    other weights.
    """
    expected, others, refused = content(opened), [], 0
    for seed in range(cases):
        done, cut, undo = damaged(folder, seed)
        try:
            if content(opened) != expected:
                others.append((done, cut))
        except CheckpointError as error:
            assert error.path is not None, done
            refused += 1
        except Exception as error:
            pytest.fail(f"{done}: {type(error).__name__}: {error}")
        undo()
    assert refused > cases // 10
    return others


def copied(name, folder):
    """A copy of a checkpoint in a folder of its own, and the path to open."""
    if (TINY / name).is_dir():
        shutil.copytree(TINY / name, folder / "copy")
        return folder / "copy"
    (folder / "copy").mkdir()
    for path in TINY.glob(f"{name}*"):
        shutil.copy(path, folder / "copy")
    return folder / "copy" / Path(name).name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["checkpoint", "manager", "shards/all", "saved_model", "model.keras", "keras3.keras"])
def test_containers_with_checksums_never_give_other_weights(tmp_path, name):
    opened = copied(name, tmp_path)
    assert outcomes(tmp_path / "copy", opened, CASES) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["weights.h5", "model.h5", "keras3.weights.h5"])
def test_hdf5(tmp_path, name):
    """HDF5 has no checksums: a flipped bit in a number or a name is not noticed, everything else is."""
    opened = copied(name, tmp_path)
    others = outcomes(tmp_path / "copy", opened, CASES)
    assert not any(cut for _, cut in others)
    assert len(others) < CASES // 10


@pytest.mark.slow
@pytest.mark.parametrize("name", ["weights.h5", "keras3.weights.h5"])
def test_hdf5_with_a_checksum_beside_it(tmp_path, name):
    opened = copied(name, tmp_path)
    digest = hashlib.sha256(opened.read_bytes()).hexdigest()
    opened.with_name(name + ".sha256").write_text(f"{digest}  {name}\n")
    assert outcomes(tmp_path / "copy", opened, CASES // 3) == []


@pytest.mark.slow
def test_the_structure_of_hdf5(tmp_path):
    """A bit of every third byte that is no number: no other weights from a file of two arrays."""
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"], file.attrs["keras_version"] = [b"a"], "2.15.0"
        group = file.create_group("a")
        group.attrs["weight_names"] = [b"a/kernel:0", b"a/bias:0"]
        group["a/kernel:0"], group["a/bias:0"] = [[1.0, 2.0], [3.0, 4.0]], [5.0, 6.0]
        numbers = [group[name].id.get_offset() for name in ("a/kernel:0", "a/bias:0")]
    original, expected = path.read_bytes(), content(path)
    numbers = {*range(numbers[0], numbers[0] + 32), *range(numbers[1], numbers[1] + 16)}
    others = []
    for place in sorted(set(range(len(original))) - numbers)[::3]:
        changed = bytearray(original)
        changed[place] ^= 1 << random.Random(place).randrange(8)
        path.write_bytes(changed)
        try:
            if content(path) != expected:
                others.append(place)
        except CheckpointError:
            pass
    assert others == []
