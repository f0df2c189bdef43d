import pytest

from keras_diffusion.cli.wording import in_command_words

OPTIONS = {
    "num_steps": "--steps",
    "guidance_scale": "--guidance-scale",
    "out": "--out",
    "overwrite": "--overwrite",
    "seed": "--seed",
}
KEYS = {
    "image_size": ["data"],
    "drop_remainder": ["data"],
    "validation_fraction": ["data"],
    "download": ["data"],
    "channels": ["data"],
    "num_classes": ["data", "network"],
    "widths": ["network"],
    "predictor": ["model"],
}


@pytest.mark.parametrize(
    "said, told",
    [
        (
            "Pass image_size=(height, width) to data.load() to bring them to one size.",
            "Set [data] image_size = [height, width] to bring them to one size.",
        ),
        ("[data] Lower it or pass drop_remainder=False.", "[data] Lower it or set drop_remainder = false."),
        ("Call data.load(image_size=(32, 32)).", "Call [data] image_size = [32, 32]."),
        ("Set `keras_diffusion.data.load(channels=1)`.", "Set [data] channels = 1."),
        ("channels= is for image folders.", "[data] channels is for image folders."),
        ("[network] Received: widths=(8, 16), dropout=2.0.", "[network] Received: widths = [8, 16], dropout = 2.0."),
        ("[network] Received: size=(30, 30). Sizes", "[network] Received: [data] image_size = [30, 30]. Sizes"),
        ("[network] Received: size='huge'", '[network] Received: size = "huge"'),
        ("[model] Received: ema=None, name='a b'", '[model] Received: ema = null, name = "a b"'),
        ("Received: predictor='w'", 'Received: [model] predictor = "w"'),
        ("Set `num_classes`.", "Set `num_classes`."),  # in two sections: which one is meant cannot be told
        ("Received: x=3, other=4", "Received: x=3, other=4"),
    ],
)
def test_python_becomes_configuration(said, told):
    assert in_command_words(said, {}, KEYS) == told


@pytest.mark.parametrize(
    "said, told",
    [
        ("`num_steps` must be ≥ 1. Received: num_steps=0", "`--steps` must be ≥ 1. Received: --steps 0"),
        ("Received: guidance_scale=2.0; the conditions", "Received: --guidance-scale 2.0; the conditions"),
        ("Pass overwrite=True to replace it.", "Set --overwrite to replace it."),
        ("Received: directory='a b'.", "Received: directory='a b'."),
        ("Received: out='runs/a'.", "Received: --out runs/a."),
        ('{"name": "ddim", "eta": 1.0}: data.load(seed)', '{"name": "ddim", "eta": 1.0}: data.load(seed)'),
        ("`--steps` must be an integer. Received: --steps 0", "`--steps` must be an integer. Received: --steps 0"),
    ],
)
def test_python_becomes_options(said, told):
    assert in_command_words(said, OPTIONS) == told


def test_long_messages_take_no_long_time():
    said = "x=" + "(" * 20_000 + "`a" * 20_000 + "=" * 20_000
    assert in_command_words(said, OPTIONS, KEYS)
