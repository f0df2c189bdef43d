import numpy as np
import pytest
from keras import ops

import keras_diffusion as kd
from keras_diffusion.visualization import level_losses, plot_level_losses


@pytest.fixture(scope="module")
def model():
    return kd.DiffusionModel(
        kd.networks.MLP((2,), width=8, depth=1, num_classes=3), predictor="x0", loss_weighting="min_snr"
    )


BATCH = {"images": np.random.default_rng(0).normal(size=(20, 2)).astype("float32"), "labels": np.arange(20) % 3}


def test_losses_are_those_of_training(model):
    """The mean over samples is `compute_loss` of the model's own outputs at that level."""
    found = level_losses(model, BATCH, times=[0.1, 0.5, 1.0], seed=3)
    assert found.losses.shape == (3, 20)
    np.testing.assert_allclose(found.log_snr, model.noise_schedule.levels(np.array([0.1, 0.5, 1.0])).log_snr)
    eps = np.stack([kd.core.noise.philox(3, i).standard_normal((2,), dtype="float32") for i in range(20)])
    for t, losses in zip(found.t, found.losses, strict=True):
        outputs = model.outputs_at(
            ops.convert_to_tensor(BATCH["images"]),
            ops.full((20,), t, "float32"),
            ops.convert_to_tensor(eps),
            {"labels": ops.convert_to_tensor(BATCH["labels"], "int32")},
        )
        loss = ops.convert_to_numpy(model.compute_loss(y_pred=outputs, training=False))
        np.testing.assert_allclose(losses.mean(), loss, rtol=1e-5)


def test_the_average_and_the_raw_weights_differ():
    model = kd.DiffusionModel(kd.networks.MLP((2,), width=8, depth=1), ema=0.9)
    model.compile("adam")
    model.fit(BATCH["images"], epochs=2, batch_size=20, verbose=0)
    average, raw = (level_losses(model, BATCH["images"], times=2, weights=which).losses for which in ("ema", "raw"))
    assert not np.allclose(average, raw, rtol=1e-4)


def test_the_plot_shows_mean_and_quartiles(model, tmp_path):
    found = level_losses(model, BATCH, times=7)
    assert found.t[0] == 0.02 and found.t[-1] == 0.98
    axes = plot_level_losses({"a": found, "b": found}, tmp_path / "l.png", over="log_snr", title="levels").axes[0]
    assert [line.get_label() for line in axes.lines] == ["a", "b"] and axes.get_yscale() == "log"
    np.testing.assert_allclose(axes.lines[0].get_xdata(), found.log_snr)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), found.losses.mean(axis=1))
    low, high = np.quantile(found.losses, [0.25, 0.75], axis=1)
    corners = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert np.isclose(corners.min(), low.min()) and np.isclose(corners.max(), high.max())
    assert plot_level_losses(found, log=False).axes[0].get_yscale() == "linear"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: level_losses(model, BATCH, times=0), r"`times` must be an integer ≥ 1. Received: times=0"),
        (lambda model: level_losses(model, BATCH, times=[0.0, 0.5]), r"times in \(0, 1\]. Received: times=\[0. +0.5\]"),
        (lambda model: level_losses(model, BATCH["images"]), r"missing: labels"),
        (lambda model: level_losses(model, BATCH, weights="best"), r"'ema' or 'raw'. Received: weights='best'"),
        (lambda model: plot_level_losses({}), r"losses to draw. Received: an empty dict"),
        (lambda model: plot_level_losses({"a": 1}, over="sigma"), r"'t' or 'log_snr'. Received: over='sigma'"),
    ],
)
def test_bad_input(model, call, message):
    with pytest.raises(ValueError, match=message):
        call(model)
