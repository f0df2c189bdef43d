"""What a model says of itself."""

import pytest

import keras_diffusion as kd


@pytest.fixture(scope="module")
def model():
    network = kd.networks.MLP((2,), width=8, depth=1, num_classes=3, context_dim=5)
    return kd.DiffusionModel(network, "linear", "epsilon", loss_weighting="min_snr", ema=0.9, seed=0)


def test_repr_is_short_and_names_what_matters(model):
    expected = "DiffusionModel(network=MLP((2,)), noise_schedule=LinearNoiseSchedule, predictor=EpsilonPredictor)"
    assert repr(model) == expected


def test_summary_begins_with_what_is_trained(model):
    texts = []
    model.summary(print_fn=texts.append)
    said = dict(line.split(":", 1) for line in texts[:-1] if ":" in line[:20])
    assert list(said) == [
        "Samples",
        "Noise schedule",
        "Predictor",
        "Loss weighting",
        "Time distribution",
        "Average of weights",
        "Conditions",
    ]
    assert "LinearNoiseSchedule" in said["Noise schedule"] and "EpsilonPredictor" in said["Predictor"]
    assert said["Average of weights"].strip() == "decay 0.9"
    assert said["Conditions"].strip() == "labels (3 classes), context (5 numbers each)"
    assert "Total params" in texts[-1] and "Predictor:" not in texts[-1]  # Keras's table


@pytest.mark.parametrize("line_length", [40, 90])
def test_summary_keeps_to_the_line_length(model, line_length):
    texts = []
    model.summary(line_length=line_length, print_fn=texts.append)
    assert max(map(len, texts[:-1])) <= line_length
    assert max(map(len, texts[-1].splitlines())) <= line_length


def test_summary_goes_to_standard_output(capsys):
    network = kd.networks.MLP((2,), width=8, depth=1)
    kd.DiffusionModel(network, ema=None, seed=0).summary()
    said = capsys.readouterr().out
    assert "Average of weights: none\nConditions:         none\n" in said and "Total params" in said


def test_known_channels_are_counted():
    network = kd.networks.UNet((8, 8, 1), widths=(8,), num_res_blocks=1, attention=False, concat_channels=2)
    texts = []
    kd.DiffusionModel(network, ema=None, seed=0).summary(print_fn=texts.append)
    assert "Conditions:         concat (2 channels)" in texts
