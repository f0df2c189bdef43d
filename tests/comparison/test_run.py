"""A real comparison: processes of three backends, one of them broken on purpose, and those that are not there."""

import json
import shutil

import keras
import numpy as np
import pytest
from command_line import run

import keras_diffusion as kd
from keras_diffusion.comparison import compare
from keras_diffusion.comparison.report import difference
from keras_diffusion.comparison.run import BACKENDS, prepare_folder, run_backend

CONFIG = """
[data]
source = "{data}"
batch_size = 8
[network]
widths = [8, 16]
num_res_blocks = 1
attention = false
[optimizer]
name = "adam"
learning_rate = 1e-3
[train.samples]
every = 0
"""


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """(folder, what was printed) of a comparison by the command line.

    Over 20 seconds: it starts a process for each of three backends.
    """
    folder = tmp_path_factory.mktemp("compare")
    rng = np.random.default_rng(0)
    np.savez(
        folder / "images.npz", images=rng.uniform(-1, 1, (32, 8, 8, 1)).astype("float32"), labels=np.arange(32) % 4
    )
    (folder / "tiny.toml").write_text(CONFIG.format(data=folder / "images.npz"))
    options = ["--steps", 6, "--num-steps", 4, "--num-samples", 4, "--sampler", "ddpm", "--out", folder / "out"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        result = run("compare", folder / "tiny.toml", *options)
    assert result.exit_code == 0, result.output
    return folder / "out", result.output


def results_of(folder, backend):
    with np.load(folder / backend / "arrays.npz") as arrays:
        layers = {name.partition("/")[2]: arrays[name] for name in arrays.files if name.startswith("layer/")}
        return {
            **json.loads((folder / backend / "result.json").read_text()),
            "samples": arrays["samples"],
            "layers": layers,
        }


@pytest.mark.slow
def test_three_backends_agree(compared):
    folder, _ = compared
    summary = json.loads((folder / "compare.json").read_text())
    assert summary["settings"]["batch_size"] == 8 and summary["title"] == "tiny" and not summary["random_data"]
    rows = summary["backends"]
    assert list(rows) == list(BACKENDS) and {row["status"] for row in rows.values()} == {"ok"}, rows
    losses = np.array([row["training"]["losses"] for row in rows.values()])
    assert losses.shape == (3, 6)
    np.testing.assert_allclose(losses, losses[:1].repeat(3, axis=0), rtol=1e-4)
    assert len(set(losses[0])) == 6
    for backend in ("tensorflow", "torch"):
        apart = rows[backend]["difference"]
        assert 0 < apart["samples"] < 1e-3 and apart["loss"] < 1e-4  # ddpm draws noise: the same on all
        assert apart["first_layer_above_limit"] is None and len(apart["layers"]) > 30
    for row in rows.values():
        assert row["training"]["median_s"] > 0 and row["memory"]["bytes"] > row["memory"]["before"]


@pytest.mark.slow
def test_the_report_names_what_it_found(compared):
    folder, output = compared
    assert all(heading in output for heading in ("Training", "Sampling", "Differences")) and "reference" in output
    assert "torch      " in output and "done" in output and "compare.html" in output
    page = (folder / "compare.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 5 and page.count("<svg") == 5


@pytest.mark.slow
def test_a_layer_with_other_weights_is_found(compared, tmp_path):
    folder, _ = compared
    shutil.copytree(folder / "inputs", tmp_path / "inputs")
    model = kd.DiffusionModel.from_preset(tmp_path / "inputs" / "model")
    kernel = model.network.get_layer("up_0_residual_0").conv2.kernel
    rng = np.random.default_rng(0)
    kernel.assign(keras.ops.convert_to_numpy(kernel) + 0.01 * rng.standard_normal(kernel.shape).astype("float32"))
    model.save_to_preset(tmp_path / "inputs" / "model", overwrite=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        broken = run_backend("torch", tmp_path / "inputs", tmp_path / "torch")
    assert broken["status"] == "ok", broken
    found = difference(broken, results_of(folder, "jax"))
    name, value = found["first_layer_above_limit"]
    assert name == "up_0_residual_0/conv2" and value > 1e-3
    assert found["loss"] > 1e-4 or found["largest_layer"][1] >= value


@pytest.mark.slow
@pytest.mark.parametrize("error, status", [("ModuleNotFoundError", "missing"), ("RuntimeError", "failed")])
def test_a_backend_that_cannot_be_imported(error, status, tmp_path, monkeypatch):
    (tmp_path / "stubs" / "torch").mkdir(parents=True)
    (tmp_path / "stubs" / "torch" / "__init__.py").write_text(f"raise {error}('no torch for you')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stubs"))
    phases = []
    result = run_backend("torch", tmp_path / "nothing", tmp_path / "torch", lambda *said: phases.append(said[1]))
    assert result["status"] == status and f"{error}: no torch for you" in result["reason"], result
    assert phases == ["starting", status]


def test_backends_that_are_not_installed_are_rows(make_model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    summary = compare(make_model(), steps=2)
    reason = {name: {"status": "missing", "reason": f"The package {name!r} is not installed"} for name in BACKENDS}
    assert summary["backends"] == reason
    (folder,) = (tmp_path / "runs").iterdir()
    assert (
        folder.name.startswith("compare-") and json.loads((folder / "compare.json").read_text())["backends"] == reason
    )
    assert "is not installed" in (folder / "compare.html").read_text()


def test_only_comparisons_are_overwritten(tmp_path):
    with pytest.raises(FileExistsError, match="only folders of comparisons"):
        (tmp_path / "letters").mkdir()
        (tmp_path / "letters" / "letter.txt").write_text("Dear")
        prepare_folder(tmp_path / "letters", overwrite=True)
    ours = tmp_path / "compare" / "inputs"
    ours.mkdir(parents=True)
    (ours / "spec.json").write_text('{"kind": "keras_diffusion comparison"}')
    with pytest.raises(FileExistsError, match="or overwrite it"):
        prepare_folder(tmp_path / "compare")
    assert not list(prepare_folder(tmp_path / "compare", overwrite=True).iterdir())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"backends": ["jax", "numpy"]}, "Backends are jax, tensorflow, torch. Received: backends=numpy"),
        ({"backends": []}, "Received: backends=none"),
        ({"backends": ["torch"]}, "The reference is one of the backends compared: torch. Received: reference=jax"),
    ],
)
def test_backends_that_do_not_fit(make_model, options, message):
    with pytest.raises(ValueError, match=message):
        compare(make_model(), **options)
