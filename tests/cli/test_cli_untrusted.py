"""Every command on untrusted files: nothing of them is imported, called or opened, and the error is
the library's own.
"""

import json
import sys
import zipfile

import keras
import pytest
from command_line import run

import keras_diffusion as kd

CANARY = "keras_hub"  # of the packages that Keras imports for a config


@pytest.fixture(autouse=True)
def canary(tmp_path, monkeypatch):
    """A package that notes that it was imported, in the working folder, as it could come along with a file."""
    if CANARY in sys.modules:
        pytest.skip(f"{CANARY} is in use")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / f"{CANARY}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.syspath_prepend(tmp_path / "work")
    floatx = keras.config.floatx()
    yield
    assert (
        CANARY not in sys.modules and not (tmp_path / "imported").exists() and not (tmp_path / "written.png").exists()
    )
    assert keras.config.floatx() == floatx


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A sound preset, `.keras` file and state."""
    folder = tmp_path_factory.mktemp("sound")
    model = kd.DiffusionModel(kd.networks.MLP((2,), width=8, depth=1), ema=None, seed=0)
    model.save_to_preset(folder / "preset")
    model.save(folder / "model.keras")
    return folder


def of(name, module, /, **config):
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


def calls(name, module):
    """A functional model that calls a function of Keras while it is made."""
    function = {"module": module, "class_name": "function", "config": name, "registered_name": name}
    tensor = {
        "class_name": "__keras_tensor__",
        "config": {"shape": [None, 2], "dtype": "float32", "keras_history": ["x", 0, 0]},
    }
    first = {**of("InputLayer", "keras.layers", batch_shape=[None, 2], name="x"), "name": "x", "inbound_nodes": []}
    layer = of("Lambda", "keras.layers", function=function, arguments={"path": "../written.png"}, name="l")
    layer = {**layer, "name": "l", "inbound_nodes": [{"args": [tensor], "kwargs": {}}]}
    layers = {"layers": [first, layer], "input_layers": [["x", 0, 0]], "output_layers": [["l", 0, 0]]}
    return of("Functional", "keras.src.models.functional", name="f", **layers)


ATTACKS = {
    "imports": of("X", CANARY),
    "writes": calls("plot_image_gallery", "keras.visualization"),
    "sets": calls("set_floatx", "keras.config"),
    "reads": of("CLIPTokenizer", None, bpe_path="/etc/passwd") | {"registered_name": "keras_diffusion>CLIPTokenizer"},
    "endless": of("CLIPTokenizer", None, bpe_path="/dev/zero") | {"registered_name": "keras_diffusion>CLIPTokenizer"},
}


def attacked(preset, attack):
    config = json.loads((preset / "preset" / "config.json").read_text())
    config["config"]["autoencoder"] = attack  # behind the network, which is sound
    return config


def write_preset(folder, preset, config):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.weights.h5").write_bytes((preset / "preset" / "model.weights.h5").read_bytes())
    (folder / "metadata.json").write_text("{}")
    return folder


def write_archive(path, preset, config):
    with zipfile.ZipFile(preset / "model.keras") as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            target.writestr(name, json.dumps(config) if name == "config.json" else source.read(name))
    return path


def write_run(folder, config, state=None):
    folder.mkdir(parents=True)
    environment = {
        "kind": "keras_diffusion run",
        "backend": keras.backend.backend(),
        "devices": ["cpu"],
        "time": "now",
        "resumed": [],
    }
    (folder / "environment.json").write_text(json.dumps(environment))
    (folder / "config.json").write_text(json.dumps(config))
    if state is not None:
        (folder / "state").mkdir()
        (folder / "state" / "state.json").write_text(json.dumps(state))
    return folder


CONFIG = {
    "data": {"source": "digits", "batch_size": 64, "validation": False},
    "network": {"name": "unet", "widths": [8], "num_res_blocks": 1, "attention": False, "num_middle_res_blocks": 0},
    "model": {"ema": None},
    "train": {"epochs": 2, "samples": {"every": 0}},
    "dtype": "float32",
    "seed": 0,
}


def commands(path, out):
    backend = keras.backend.backend()
    yield "sample", path, "-n", 1, "--steps", 1, "--out", out / "a.npz"
    yield "info", path
    yield "convert", path, out / "preset"
    yield "export", path, out / "folder"
    yield "compare", path, "--backend", backend, "--reference", backend, "--out", out / "compared"
    yield "inspect", path


def check_refused(path, out, words):
    """No command takes `path`; `inspect` may show it, as the data that it is."""
    for command in commands(path, out):
        result = run(*command)
        assert result.exception is None or isinstance(result.exception, SystemExit), (command, result.exception)
        if command[0] != "inspect":
            assert result.exit_code in (1, 2), (command, result.output)
            assert any(word in result.output for word in words), (command, result.output)
            assert "root:" not in result.output and len(result.output) < 3000
    assert not out.exists()


@pytest.mark.parametrize("attack", ATTACKS)
def test_presets_and_archives(attack, preset, tmp_path):
    config = attacked(preset, ATTACKS[attack])
    words = ("no code of others", "holds no paths", "leads to a file beside it")
    check_refused(write_preset(tmp_path / "p", preset, config), tmp_path / "out", words)
    check_refused(write_archive(tmp_path / "m.keras", preset, config), tmp_path / "out", words)


def test_finished_runs(preset, tmp_path):
    folder = write_run(tmp_path / "run", CONFIG, {"epoch": 2, "data_epoch": None, "weights": "state-000002.weights.h5"})
    write_preset(folder / "model", preset, attacked(preset, ATTACKS["imports"]))
    check_refused(folder, tmp_path / "out", ("no code of others", "Not a checkpoint of a known kind"))


@pytest.mark.parametrize("section", ["network", "model", "optimizer", "data"])
def test_configurations_of_runs(section, tmp_path):
    """Also an unfinished one, and a bare configuration."""
    wrong = {"network": "activation", "model": "noise_schedule", "optimizer": "learning_rate", "data": "value_range"}[
        section
    ]
    config = {**CONFIG, section: {**CONFIG.get(section, {}), wrong: of("X", CANARY)}}
    folder = write_run(tmp_path / "run", config, {"epoch": 1, "data_epoch": 1, "weights": "state-000001.weights.h5"})
    words = ("no code of others", "Not a checkpoint of a known kind")
    check_refused(folder, tmp_path / "out", words)
    for command in (
        ("train", "--resume", "--out", folder),
        ("train", folder / "config.json", "--out", tmp_path / "new"),
    ):
        result = run(*command)
        assert result.exit_code in (1, 2) and "no code of others" in result.output, result.output
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "environment.json", "state"]


@pytest.mark.parametrize("weights", ["../../secret.weights.h5", "/etc/passwd", "sub/state-000001.weights.h5"])
def test_states_that_lead_elsewhere(weights, tmp_path):
    folder = write_run(tmp_path / "run", CONFIG, {"epoch": 1, "data_epoch": 1, "weights": weights})
    words = ("weights are a file beside it", "Not a checkpoint of a known kind")
    check_refused(folder, tmp_path / "out", words)
    result = run("train", "--resume", "--out", folder)
    assert result.exit_code in (1, 2) and words[0] in result.output, result.output


def test_damaged_runs(tmp_path):
    """Files that are not as `train` writes them."""
    state = {"epoch": 1, "data_epoch": 1, "weights": "state-000001.weights.h5"}
    for i, config in enumerate(({}, {"train": 3}, {**CONFIG, "train": {}}, {**CONFIG, "network": [], "dtype": {}})):
        folder = write_run(tmp_path / str(i), config, state)
        for command in (*commands(folder, tmp_path / "out"), ("train", "--resume", "--out", folder)):
            result = run(*command)
            assert result.exit_code in (1, 2) and isinstance(result.exception, SystemExit), (command, result.exception)
            assert "Traceback" not in result.output


def test_shards_lie_beside_their_index(tmp_path):
    for i, name in enumerate(
        ("../x.safetensors", "/etc/passwd", "..", "", ".", "a" * 5000, "model.safetensors.index.json", "x\0y")
    ):
        (tmp_path / str(i)).mkdir()
        index = tmp_path / str(i) / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": {"w": name}}))
        with pytest.raises(kd.checkpoints.CheckpointError, match="no file beside it"):
            kd.checkpoints.inspect(index)
    (tmp_path / "tf").mkdir()
    for name in ("..", "/", "a/..", "."):
        (tmp_path / "tf" / "checkpoint").write_text(f'model_checkpoint_path: "{name}"\n')
        with pytest.raises(kd.checkpoints.CheckpointError):
            kd.checkpoints.inspect(tmp_path / "tf")
