import json
import re
import shutil

import numpy as np
import pytest
from command_line import run
from PIL import Image

import keras_diffusion as kd


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run on 8×8 images of 4 classes."""
    folder = tmp_path_factory.mktemp("sample")
    rng = np.random.default_rng(0)
    np.savez(
        folder / "images.npz", images=rng.uniform(-1, 1, (32, 8, 8, 1)).astype("float32"), labels=np.arange(32) % 4
    )
    config = {
        "data": {"source": str(folder / "images.npz"), "batch_size": 16},
        "network": {"widths": [8], "num_res_blocks": 1, "num_middle_res_blocks": 0, "attention": False},
        "model": {"ema": 0.9},
        "train": {"epochs": 2, "samples": {"every": 0}},
    }
    (folder / "tiny.json").write_text(json.dumps(config))
    result = run("train", folder / "tiny.json", "--out", folder / "run")
    assert result.exit_code == 0, result.output
    return folder / "run"


def arrays(path):
    with np.load(path) as file:
        return dict(file)


def test_the_same_seed_gives_the_same_samples(trained, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        result = run(
            "sample", trained, "--seed", seed, "--steps", 3, "--labels", "0-3", "--out", tmp_path / f"{name}.npz"
        )
        assert result.exit_code == 0, result.output
    a, b, c = (arrays(tmp_path / f"{name}.npz") for name in "abc")
    assert a["images"].shape == (4, 8, 8, 1) and a["labels"].tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(a["images"], b["images"])
    assert np.abs(a["images"] - c["images"]).max() > 0.1


@pytest.mark.slow
def test_options_reach_generate(trained, tmp_path):
    options = [
        "--steps",
        3,
        "--seed",
        5,
        "--sampler",
        '{"name": "ddim", "eta": 0.5}',
        "--guidance-scale",
        2.0,
        "--weights",
        "raw",
    ]
    result = run("sample", trained, *options, "--labels", "1,2", "--batch-size", 1, "--out", tmp_path / "a.npz")
    assert result.exit_code == 0, result.output
    model = kd.DiffusionModel.from_preset(trained / "model")
    expected = model.generate(
        conditions={"labels": [1, 2]},
        num_steps=3,
        seed=5,
        sampler={"name": "ddim", "eta": 0.5},
        guidance_scale=2.0,
        weights="raw",
    )
    np.testing.assert_allclose(arrays(tmp_path / "a.npz")["images"], expected, atol=1e-5)


@pytest.mark.slow
def test_guidance_as_json(trained, tmp_path):
    kind = {"name": "adaptive_projected", "eta": 0.2}
    # A large scale, since a network of two epochs says much the same of every label.
    options = ["--steps", 2, "--seed", 5, "--guidance-scale", 1000.0, "--guidance", json.dumps(kind), "--labels", "1,2"]
    result = run("sample", trained, *options, "--out", tmp_path / "a.npz")
    assert result.exit_code == 0, result.output
    model = kd.DiffusionModel.from_preset(trained / "model")
    expected = model.generate(conditions={"labels": [1, 2]}, num_steps=2, seed=5, guidance_scale=1000.0, guidance=kind)
    np.testing.assert_allclose(arrays(tmp_path / "a.npz")["images"], expected, atol=1e-5)
    assert (
        np.abs(
            model.generate(conditions={"labels": [1, 2]}, num_steps=2, seed=5, guidance_scale=1000.0) - expected
        ).max()
        > 1e-4
    )


def test_a_picture_with_one_row_per_label(trained, tmp_path):
    result = run("sample", trained, "--labels", "0-2", "--per-label", 5, "--steps", 2, "--out", tmp_path / "grid.png")
    assert result.exit_code == 0 and f"Wrote {tmp_path / 'grid.png'}" in result.output
    with Image.open(tmp_path / "grid.png") as image:
        assert image.size == (5 * 65 + 1, 3 * 65 + 1)


def test_walks_as_films_and_animations(trained, tmp_path):
    options = ["--labels", "0-2", "--steps", 9, "--seed", 0]
    for name, more in (("film.png", ["--film"]), ("walk.gif", []), ("walk.webp", ["--cols", 1])):
        result = run("sample", trained, *options, "--out", tmp_path / name, *more)
        assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "film.png") as film:
        assert film.size == (8 * 65 + 1, 3 * 65 + 1)
    for name in ("walk.gif", "walk.webp"):
        with Image.open(tmp_path / name) as walk:
            assert walk.n_frames == 9
            assert (walk.width > walk.height) is (name == "walk.gif")


def test_losses_by_noise_level(trained, tmp_path):
    result = run("plot", "losses", trained, "-n", 5, "--over", "log_snr", "--out", tmp_path / "losses.png")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "losses.png").stat().st_size > 10_000
    wrong = run("plot", "losses", trained / "model", "--out", tmp_path / "b.png")
    assert wrong.exit_code == 2 and "A run is a folder made by `keras-diffusion train`" in wrong.stderr
    wrong = run("plot", "losses", trained, "--over", "time", "--out", tmp_path / "b.png")
    assert wrong.exit_code == 2 and "--over is t or log_snr" in wrong.stderr


def test_default_file_is_a_new_one_in_the_run(trained):
    outputs = [run("sample", trained, "--seed", 11, "--steps", 2).output for _ in range(2)]
    assert f"Wrote {trained / 'generated' / 'samples-11.png'}" in outputs[0]
    assert f"Wrote {trained / 'generated' / 'samples-11-2.png'}" in outputs[1]
    assert "Sampling 4 from" in outputs[0] and "the finished model, 2 epochs" in outputs[0]


@pytest.mark.slow
def test_labels_repeat_up_to_the_number_asked_for(trained, tmp_path):
    run("sample", trained, "-n", 6, "--labels", "1,3", "--steps", 2, "--out", tmp_path / "a.npz")
    assert arrays(tmp_path / "a.npz")["labels"].tolist() == [1, 3, 1, 3, 1, 3]
    run("sample", trained, "-n", 3, "--labels", "none", "--steps", 2, "--out", tmp_path / "b.npz")
    assert set(arrays(tmp_path / "b.npz")) == {"images"}


def test_a_misspelt_name_is_an_error_before_the_model_is_loaded(tmp_path):
    for option, name, meant in (("--sampler", "unipcc", "unipc"), ("--spacing", "karas", "karras")):
        result = run("sample", tmp_path / "no model", option, name)
        assert result.exit_code == 2 and name in result.stderr and f"Did you mean {meant!r}?" in result.stderr


def test_an_existing_file_is_kept(trained, tmp_path):
    (tmp_path / "a.npz").write_text("mine")
    result = run("sample", trained, "--steps", 2, "--out", tmp_path / "a.npz")
    assert result.exit_code == 2 and "An existing file is only replaced with --overwrite" in result.stderr
    assert (tmp_path / "a.npz").read_text() == "mine"
    assert run("sample", trained, "--steps", 2, "--out", tmp_path / "a.npz", "--overwrite").exit_code == 0
    assert arrays(tmp_path / "a.npz")["images"].shape == (4, 8, 8, 1)


@pytest.mark.slow
def test_keras_file_and_preset_and_unfinished_run_give_the_same(trained, tmp_path):
    model = kd.DiffusionModel.from_preset(trained / "model")
    model.save(tmp_path / "model.keras")
    shutil.copytree(trained, tmp_path / "unfinished")
    shutil.rmtree(tmp_path / "unfinished" / "model")
    samples, outputs = [], []
    for number, source in enumerate((trained, trained / "model", tmp_path / "model.keras", tmp_path / "unfinished")):
        result = run("sample", source, "--seed", 1, "--steps", 2, "--out", tmp_path / f"{number}.npz")
        assert result.exit_code == 0, result.output
        samples.append(arrays(tmp_path / f"{number}.npz")["images"])
        outputs.append(result.output)
    for other in samples[1:]:
        np.testing.assert_allclose(other, samples[0], atol=1e-6)
    assert "(a preset)" in outputs[1] and "(a .keras file)" in outputs[2]
    assert "(the state of an unfinished run, 2 of 2 epochs)" in outputs[3]


def test_a_run_without_a_finished_epoch(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    for name in ("model", "state"):
        shutil.rmtree(tmp_path / "run" / name)
    result = run("sample", tmp_path / "run")
    assert result.exit_code == 2 and "A run can be loaded once a state of it was saved" in result.stderr
    assert "unfinished, 0 of 2 epochs" in run("info", tmp_path / "run").output


@pytest.mark.slow
def test_vectors_are_written_as_arrays(tmp_path):
    kd.DiffusionModel(kd.networks.MLP((2,), width=8, depth=1)).save_to_preset(tmp_path / "preset")
    result = run("sample", tmp_path / "preset", "-n", 3, "--steps", 2, "--out", tmp_path / "points.npz")
    assert result.exit_code == 0 and arrays(tmp_path / "points.npz")["images"].shape == (3, 2)
    result = run("sample", tmp_path / "preset", "-n", 3, "--out", tmp_path / "points.png")
    assert result.exit_code == 2 and "A .png shows images or clips of 1, 3 or 4 channels" in result.stderr
    result = run("sample", tmp_path / "preset", "--labels", "0", "--out", tmp_path / "x.npz")
    assert result.exit_code == 2 and "--labels and --per-label are for models with classes" in result.stderr


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A preset with class names."""
    network = kd.networks.UNet(
        (8, 8, 3), widths=(8,), num_res_blocks=1, num_middle_res_blocks=0, attention=False, num_classes=3
    )
    folder = tmp_path_factory.mktemp("named") / "preset"
    kd.DiffusionModel(network, class_names=["china", "flower", "tower, red"]).save_to_preset(folder)
    return folder


def test_classes_by_name(named, tmp_path):
    result = run(
        "sample", named, "--labels", "flower,china,2", "--per-label", 2, "--steps", 2, "--out", tmp_path / "a.npz"
    )
    assert result.exit_code == 0, result.output
    assert arrays(tmp_path / "a.npz")["labels"].tolist() == [1, 1, 0, 0, 2, 2]
    assert "Sampling 6 of flower, china, tower, red from" in result.output
    # Titles stand on the left of the rows.
    assert (
        run(
            "sample", named, "--labels", "flower", "--per-label", 2, "--steps", 2, "--out", tmp_path / "a.png"
        ).exit_code
        == 0
    )
    with Image.open(tmp_path / "a.png") as image:
        assert image.width > 2 * 65 + 1 + 20 and image.height == 66
    result = run("sample", named, "--labels", "flowr", "--out", tmp_path / "b.png")
    assert (
        result.exit_code == 2
        and "Unknown class name. Received: 'flowr'. Did you mean 'flower'? Known: 0 china, 1 flower" in result.stderr
    )


def test_info_tells_the_class_names(named):
    assert "0 china, 1 flower, 2 tower, red" in run("info", named).output


def test_info_of_a_preset(trained):
    result = run("info", trained / "model")
    assert (
        result.exit_code == 0
        and "a preset" in result.output
        and "VPredictor" in result.output
        and "decay 0.9" in result.output
    )


@pytest.mark.parametrize(
    "options, message",
    [
        (["--labels", "9"], "`--labels` are classes of the model: 0 to 3. Received: class 9"),
        (["--labels", "0-99999999999"], "100,000 at most. Received: --labels 0-99999999999"),
        (["--labels", "0-3", "--per-label", 900_000], "The number of samples is above the limit samples"),
        (["--labels", "a"], "Labels are class ids such as 0,1,2"),
        (["--labels", "0", "--per-label", 2, "-n", 3], "Give --num-samples or --per-label"),
        (["-n", 0], "`--num-samples` must be an integer ≥ 1"),
        (["--steps", 0], "`--steps` must be an integer ≥ 1. Received: --steps 0"),
        (["--num-steps", 10**9], "`--steps` must be an integer ≥ 1 and ≤ 100,000. Received: --steps 1000000000"),
        (["--guidance-scale", "2", "--labels", "none"], "Received: --guidance-scale 2.0"),
        (
            ["--sampler", "[" * 3 + "{" * 100_000],
            "If this is intended: the environment variable KERAS_DIFFUSION_LIMITS",
        ),
        (["--sampler", '{"name": ' + "[" * 100_000], "Options are given as JSON"),
        (["--sampler", "eulr"], "Unknown sampler: 'eulr'. Known names:"),
        (["--sampler", "{ddim}"], "Options are given as JSON"),
        (["--weights", "best"], "--weights is ema or raw. Received: --weights best"),
        (["--seed", -1], "`--seed` must be an integer ≥ 0. Received: --seed -1"),
        (["--seed", 2**64], "`--seed` must be an integer ≥ 0 and ≤ 18,446,744,073,709,551,615"),
        (["--out", "samples.jpg"], "Samples are written as .png, .gif, .webp or .npz. Received: --out samples.jpg"),
        (["--out", "samples.gif", "--film"], "A film strip is written as .png. Received: --film --out samples.gif"),
    ],
)
def test_bad_options(trained, options, message):
    result = run("sample", trained, *options)
    assert result.exit_code in (1, 2) and message in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "option, message",
    [
        (("--sampler", "eulr"), "Did you mean .euler."),
        (("--spacing", "kerras"), "Did you mean .karras."),
        (("--guidance", "reskale"), "Unknown guidance: 'reskale'.*Did you mean 'rescale'"),
        (("--guidance", '{"name": "rescale", "rescal": 1.0}'), "has no option 'rescal'"),
        (("--guidance", "rescale", "--guidance-scale", "1"), "Give a `--guidance-scale` as well"),
    ],
)
def test_a_misspelt_name_is_reported_before_the_model_is_read(option, message):
    options = {"--guidance-scale": "2"} if option[0] == "--guidance" else {}
    result = run("sample", "no-such-model", *(part for pair in options.items() for part in pair), *option)
    assert result.exit_code == 2 and re.search(message, result.stderr, re.DOTALL), result.stderr
    assert "no-such-model" not in result.stderr
