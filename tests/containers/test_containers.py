"""The containers on files of Keras 2 and Keras 3: the golden ones, and small ones that have some more of everything."""

import json
import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from keras_diffusion.containers import open_container
from keras_diffusion.containers.errors import CheckpointError

TINY = Path(__file__).parents[1] / "golden" / "tiny_checkpoints"
# Path, format, and for every root the golden file with the same weights in Keras 2's order.
DDPM, NETWORK, EMA = (
    "ddpm_unet/weights.h5",
    "ddim_residual_unet/network_weights.h5",
    "ddim_residual_unet/ema_weights.h5",
)
GOLDEN = [
    ("ddpm_unet/model.h5", "Keras 2 H5 model", {"": DDPM}),
    ("ddpm_unet/model.keras", "Keras 2 .keras", {"": DDPM}),
    ("ddpm_unet/tf_checkpoint/model", "TensorFlow checkpoint", {"": DDPM}),
    ("ddpm_unet/tf_checkpoint", "TensorFlow checkpoint", {"": DDPM}),
    ("ddpm_unet/train_checkpoint/ckpt.index", "TensorFlow checkpoint", {"model": DDPM}),
    ("ddpm_unet/train_checkpoint/ckpt.data-00000-of-00001", "TensorFlow checkpoint", {"model": DDPM}),
    ("ddpm_unet/saved_model", "TensorFlow SavedModel", {"": DDPM}),
    ("ddim_residual_unet/ema_model.h5", "Keras 2 H5 model", {"": EMA}),
    ("ddim_residual_unet/ema_model.keras", "Keras 2 .keras", {"": EMA}),
    ("ddim_residual_unet/tf_checkpoint", "TensorFlow checkpoint", {"network": NETWORK, "ema_network": EMA}),
    ("ddim_residual_unet/saved_model", "TensorFlow SavedModel", {"network": NETWORK, "ema_network": EMA}),
]


def h5py_layers(path):
    """Layers of a Keras-2 H5 weights file, read by h5py: a list of lists of arrays."""
    with h5py.File(path) as file:
        layers = ((file[name], file[name].attrs["weight_names"]) for name in file.attrs["layer_names"])
        return [[group[weight][()] for weight in weights] for group, weights in layers if len(weights)]


def as_sets(layers):
    """Layers without the order of their weights, which formats do not agree on."""
    return [sorted((array.shape, array.tobytes()) for array in layer) for layer in layers]


@pytest.mark.parametrize(("path", "form", "roots"), GOLDEN)
def test_layers_and_weights_agree_over_the_formats(keras2, path, form, roots):
    with open_container(keras2 / path) as container:
        assert container.format == form
        assert container.roots == tuple(roots)
        for root, twin in roots.items():
            layers = container.layers(root)
            read = [[container.read(name) for name in layer.weights.values()] for layer in layers]
            assert as_sets(read) == as_sets(h5py_layers(keras2 / twin))
            config = container.config_of(root)
            assert (config is not None) == (form not in ("TensorFlow checkpoint", "Keras 2 H5 weights"))
            if config is not None:
                classes = {layer["class_name"] for layer in config["layers"]}
                assert {layer.class_name for layer in layers} <= classes
        for name, info in container.tensors.items():
            assert container.read(name).shape == info.shape


@pytest.mark.parametrize("path", [DDPM, NETWORK, EMA])
def test_weights_in_the_order_of_the_file(keras2, path):
    listed = json.loads((keras2 / path).with_name("weights.json").read_text())
    with open_container(keras2 / path) as container:
        assert container.format == "Keras 2 H5 weights"
        assert container.metadata == {"keras_version": "2.21.0", "backend": "tensorflow"}
        infos = [container.tensors[name] for layer in container.layers() for name in layer.weights.values()]
        assert [list(info.shape) for info in infos] == [weight["shape"] for weight in listed]
        names = [f"{layer.name}/{leaf}:0" for layer in container.layers() for leaf in layer.weights]
        assert names == [weight["name"] for weight in listed]
        assert list(container.tensors)[: len(infos)] == [
            name for layer in container.layers() for name in layer.weights.values()
        ]


LEAVES = {
    "weights.h5": ["dense/kernel", "dense/bias", "dense_1/kernel"],
    "model.h5": ["dense/kernel", "dense/bias", "dense_1/kernel"],
    "model.keras": ["query/0", "value/0", "value/1"],
    "checkpoint": ["query/kernel", "value/bias", "value/kernel"],
    "saved_model": ["query/kernel", "value/bias", "value/kernel"],
    "manager": ["query/kernel", "value/bias", "value/kernel"],
}


@pytest.mark.parametrize("path", LEAVES)
def test_layers_within_layers(path):
    with open_container(TINY / path) as container, np.load(TINY / "weights.npz") as stored:
        layers = container.layers(container.roots[0])
        assert list(layers[-1].weights) == LEAVES[path]
        read = [[container.read(name) for name in layer.weights.values()] for layer in layers]
        groups = {}
        for name, array in stored.items():
            groups.setdefault(name.split("/")[0], []).append(array)
        assert as_sets(read) == as_sets(groups.values())


def test_names_of_a_saved_model_come_from_its_object_graph():
    with open_container(TINY / "saved_model") as saved, open_container(TINY / "checkpoint") as checkpoint:
        assert set(saved.tensors) == set(checkpoint.tensors)
        assert saved.roots == checkpoint.roots == ("network", "ema_network")
        for name in saved.tensors:
            np.testing.assert_array_equal(saved.read(name), checkpoint.read(name))
        classes = ["Conv2D", "BatchNormalization", "Conv2D", "tiny>Pair"]
        assert [layer.class_name for layer in saved.layers("ema_network")] == classes
        assert [layer.class_name for layer in checkpoint.layers("ema_network")] == [None] * 4


@pytest.mark.parametrize("path", ["keras3.keras", "keras3.weights.h5"])
def test_keras_3(path):
    with open_container(TINY / path) as container, np.load(TINY / "keras3.npz") as stored:
        assert container.format == ("Keras 3 .keras" if path.endswith(".keras") else "Keras 3 .weights.h5")
        layers = {layer.name: layer for layer in container.layers()}
        groups = {}
        for name, array in stored.items():
            groups.setdefault(name.split("/")[0], []).append(array)
        assert set(layers) == set(groups)
        if path.endswith(".keras"):  # has a config, which knows the order
            assert list(layers) == ["conv2d_1", "batch_normalization", "conv2d", "dense"]
        assert container.tensors[layers["dense"].weights["0"]].dtype == "bfloat16"
        for name, layer in layers.items():
            for read, array in zip([container.read(tensor) for tensor in layer.weights.values()], groups[name]):
                assert read.dtype == np.float32
                np.testing.assert_array_equal(read, array)


def test_optimizer_weights_are_tensors_but_no_layers():
    with open_container(TINY / "model.h5") as container:
        assert "optimizer_weights/iteration:0" in container.tensors
        assert not any("optimizer" in name for layer in container.layers() for name in layer.weights.values())


def test_a_folder_of_the_checkpoint_manager_opens_the_newest(tmp_path):
    for number in (1, 2):
        for file in (TINY / "manager").glob("ckpt-1.*"):
            shutil.copy(file, tmp_path / file.name.replace("ckpt-1", f"ckpt-{number}"))
    with pytest.raises(CheckpointError, match="Which of the checkpoints.*ckpt-1, ckpt-2"):
        open_container(tmp_path)
    (tmp_path / "checkpoint").write_text(
        'model_checkpoint_path: "/elsewhere/run/ckpt-2"\nall_model_checkpoint_paths: "ckpt-1"\n'
    )
    with open_container(tmp_path) as container:
        assert container.roots == ("net",) and container.read("step") == 7


def test_what_is_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at.*'nothing.index'"):
        open_container(tmp_path / "nothing")
    (tmp_path / "x.h5").write_bytes(b"PNG-like")
    with pytest.raises(
        CheckpointError, match="Known: .*Keras 2 H5, .*TensorFlow SavedModel.*Found: 8 bytes that begin with 50 4e 47"
    ):
        open_container(tmp_path / "x.h5")
    with pytest.raises(CheckpointError, match="a folder with x.h5 in it"):
        open_container(tmp_path)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = np.zeros(3)
    with pytest.raises(CheckpointError, match="not of Keras"):
        open_container(tmp_path / "other.h5")


def test_the_content_decides_not_the_ending(tmp_path):
    shutil.copy(TINY / "model.keras", tmp_path / "weights.h5")
    with open_container(tmp_path / "weights.h5") as container:
        assert container.format == "Keras 2 .keras"


def test_unknown_tensors_and_roots():
    with open_container(TINY / "weights.h5") as container:
        with pytest.raises(CheckpointError, match="no tensor 'x'. The file has 10"):
            container.read("x")
        with pytest.raises(CheckpointError, match="no sub-model 'ema_network'. Known: ''"):
            container.layers("ema_network")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    shutil.copy(TINY / "weights.h5", tmp_path / "weights.h5")
    with h5py.File(tmp_path / "weights.h5", "a") as file:
        file["conv2d/conv2d/bias:0"][1] = np.nan
    with open_container(tmp_path / "weights.h5") as container:
        container.read("conv2d/conv2d/kernel:0")
        with pytest.raises(CheckpointError, match="'conv2d/conv2d/bias:0' holds NaN"):
            container.read("conv2d/conv2d/bias:0")


@pytest.mark.parametrize("name", ["weights.h5", "model.keras", "keras3.weights.h5", "shards/all.data-00000-of-00002"])
def test_sha256_beside_a_file(tmp_path, name):
    import hashlib

    for file in (TINY / name).parent.glob("*"):
        if file.is_file():
            shutil.copy(file, tmp_path / file.name)
    path = tmp_path / Path(name).name
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    beside = path.with_name(path.name + ".sha256")
    beside.write_text(f"{digest}  {path.name}\n")
    open_container(path).close()
    beside.write_text(f"{'0' * 64}  {path.name}\n")
    with pytest.raises(CheckpointError, match=f"not what {path.name}.sha256 describes.*Fetch it again"):
        open_container(path)
    beside.write_text(f"{digest}  {path.name}\n")
    path.write_bytes(path.read_bytes()[:-1])  # the checksum goes before what the structure would tell
    with pytest.raises(CheckpointError, match="sha256 describes"):
        open_container(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config.json": None}, "one member 'config.json'"),
        ({"config.json": b"[1]"}, "should be a JSON object"),
        ({"metadata.json": b"{"}, "no JSON"),
        ({"config.json": b"[" * 100_000}, "no JSON"),
        ({"model.weights.h5": b"nothing"}, "wanted at 0|begin like HDF5"),
    ],
)
def test_archives_with_other_content(tmp_path, change, message):
    with zipfile.ZipFile(TINY / "model.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()} | change
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)
    with pytest.raises(CheckpointError, match=message):
        open_container(tmp_path / "a.keras")


def test_compressed_archives_are_refused(tmp_path):
    with (
        zipfile.ZipFile(TINY / "model.keras") as archive,
        zipfile.ZipFile(tmp_path / "a.keras", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    with pytest.raises(CheckpointError, match="compressed.*zip -0"):
        open_container(tmp_path / "a.keras")


def test_a_config_that_does_not_fit_the_weights(tmp_path):
    with zipfile.ZipFile(TINY / "model.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["config.json"] = members["config.json"].replace(b'"Conv2D"', b'"Conv1D"')
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with (
        open_container(tmp_path / "a.keras") as container,
        pytest.raises(CheckpointError, match="no layer for the weights 'layers/conv2d'"),
    ):
        container.layers()
