"""Reconstructions measured as a set, and the callback that does so while an autoencoder learns. On every backend."""

import json

import numpy as np
import pytest

import keras_diffusion as kd
from keras_diffusion.callbacks import MetricsJSONL, ReconstructionMetrics
from keras_diffusion.metrics import MetricResult, ReconstructionEvaluator


def means(images):
    """Features: the colours of the quarters of a picture."""
    images = np.asarray(images, "float64")
    return images.reshape(len(images), 2, 8, 2, 8, -1).mean(axis=(2, 4)).reshape(len(images), -1)


class Blurred:
    """In place of a model: what it makes of pictures is the mean colour, with a weight."""

    def __init__(self, blur):
        self.blur, self.autoencoder = blur, "autoencoder"

    def averaged_autoencoder(self):
        return "an average"

    def reconstruct(self, images, weights="ema", batch_size=64):
        return (1 - self.blur) * images + self.blur * images.mean(axis=(1, 2), keepdims=True)


@pytest.fixture(scope="module")
def pictures():
    return kd.data.load("shapes", image_size=16, batch_size=120, seed=0)[0]["images"]


@pytest.fixture(scope="module")
def model():
    kd.keras.utils.set_random_seed(0)
    autoencoder = kd.networks.AutoencoderKL(widths=(8, 8), num_res_blocks=1, latent_channels=3, attention=False)
    model = kd.AutoencoderModel(autoencoder, ema=0.9, seed=0)
    model.compile(kd.keras.optimizers.Adam(1e-3))
    return model


def test_a_perfect_autoencoder_has_no_distance_and_blur_has_one(pictures):
    evaluator = ReconstructionEvaluator(pictures, ["fd", "mind"], means, num_samples=60)
    found = [evaluator(Blurred(blur)) for blur in (0.0, 0.5, 1.0)]
    for name in ("fd", "mind"):
        none, some, all_of_it = (results[name].value for results in found)
        assert abs(none) < 1e-6 < some < all_of_it
    result = found[1]["fd"]
    assert result.floor.n == 60 and result.made == "reconstructed" and result.n_real == 60 and result.weights == "ema"
    assert "60 reconstructed against 60 real" in str(result) and MetricResult.from_json(result.to_json()) == result


def test_fewer_pictures_than_asked_for_are_all_of_them(pictures):
    evaluator = ReconstructionEvaluator(pictures[:40], "mind", means, num_samples=1000)
    assert evaluator.num_samples == 40 == len(evaluator.originals)
    with pytest.raises(ValueError, match="FD of 12 features needs at least 13 samples.* 9 reconstructed"):
        ReconstructionEvaluator(pictures[:9], "fd", means)


def test_a_model_is_measured_on_its_own_pictures(model, pictures):
    found = model.evaluate_reconstructions(pictures, ["mind"], means, num_samples=60)["mind"]
    originals = ReconstructionEvaluator(pictures, ["mind"], means, num_samples=60).originals
    expected = kd.metrics.get("mind")(means(model.reconstruct(originals)), means(originals))
    assert found.value == pytest.approx(expected.value, rel=1e-6) and found.weights == "raw", "nothing was averaged yet"


@pytest.mark.slow
def test_the_curve_while_an_autoencoder_learns(model, pictures, tmp_path):
    scores = ReconstructionMetrics(pictures[60:], ["mind"], every=2, extractor=means, best=tmp_path / "best")
    callbacks = [scores, MetricsJSONL(tmp_path / "metrics.jsonl")]
    model.fit(pictures[:60], epochs=5, batch_size=20, verbose=0, callbacks=callbacks)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if "mind" in line] == [2, 4, 5]
    assert scores.results[5]["mind"].weights == "ema" and scores.results[5]["mind"].value == lines[-1]["mind"]
    kept = kd.AutoencoderModel.from_preset(tmp_path / "best")
    assert scores.evaluator(kept)["mind"].value == pytest.approx(scores.best_result.value, rel=1e-5)


@pytest.mark.parametrize(("options", "message"), [({"weights": "best"}, "weights"), ({"batch_size": 0}, "batch_size")])
def test_wrong_options_are_refused_before_training(pictures, options, message):
    with pytest.raises(ValueError, match=message):
        ReconstructionMetrics(pictures, ["mind"], extractor=means, **options)


def test_other_models_are_refused(pictures):
    network = kd.networks.MLP((2,), width=8, depth=1)
    scores = ReconstructionMetrics(pictures, ["mind"], extractor=means)
    scores.set_model(kd.DiffusionModel(network))
    with pytest.raises(ValueError, match=r"ReconstructionMetrics needs a model with reconstruct\(\), such as Auto"):
        scores.on_train_begin()
