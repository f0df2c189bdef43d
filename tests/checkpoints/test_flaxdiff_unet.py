"""U-Nets of FlaxDiff of every era give what FlaxDiff gave, and what the files do not say is said or asked for."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from calling import call
from golden_data import OUTSIDE

from keras_diffusion import checkpoints
from keras_diffusion.checkpoints.families.flaxdiff.common import activation_of, conventions, fourier_stream, merges
from keras_diffusion.checkpoints.families.flaxdiff.unet import FlaxDiffUNet
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.layers.activations import gelu_tanh

GOLDEN = Path(__file__).parent.parent / "golden" / "flaxdiff"
CASES = ["a_uncond_cosine_mish", "b_edm_uncond_rect", "c_text_cfg_flashself", "d_unet_cross_rms", "d_unet_full_named"]
ALL = [
    *CASES,
    "d_unet_pure",
    "a_uncond_cosine",
    "b_edm_uncond",
    "b_edm_uncond_conv",
    "c_text_cfg",
    "c_text_cfg_ctx77",
    "d_unet_none",
]
OUTPUTS = [(state, weights) for state in ("state", "best_state") for weights in ("params", "ema_params")]
OUTSIDE_CASES = [(case, *output) for case in ALL for output in (OUTPUTS[:1] if case.startswith("a_") else OUTPUTS)]


def case_of(folder):
    """(config, arrays, inputs of the network) of a case."""
    arrays = np.load(folder / "io.npz")
    names = {"x": "in_x", "noise_level": "in_temb", "context": "in_textcontext"}
    inputs = {key: arrays[name] for key, name in names.items() if name in arrays.files}
    return json.loads((folder / "config.json").read_text()), arrays, inputs


def load(path, state, weights, config):
    states, sets = {"state": "last", "best_state": "best"}, {"params": "raw", "ema_params": "ema"}
    return checkpoints.load(path, sets[weights], states[state], config, verbose=0)


def difference(loaded, inputs, expected):
    return np.abs(call(loaded.network, inputs) - expected).max()


@pytest.mark.parametrize("name", CASES)
def test_outputs(name):
    config, arrays, inputs = case_of(GOLDEN / name)
    output = next(key for key in reversed(arrays.files) if key.startswith("out_"))
    loaded = load(GOLDEN / name / "weights.msgpack", *output.removeprefix("out_").split("__"), config)
    assert loaded.report.family == "flaxdiff_unet"
    # An absolute bound: outputs are of order 1, and a wrong choice of anything moves them by 1e-4 at least.
    assert difference(loaded, inputs, arrays[output]) < 5e-5


@pytest.mark.slow
@pytest.mark.parametrize(("name", "state", "weights"), OUTSIDE_CASES)
def test_outputs_of_whole_checkpoints(name, state, weights):
    folder = Path(os.environ.get(OUTSIDE, "")) / "flaxdiff" / name
    if not folder.is_dir() or OUTSIDE not in os.environ:
        pytest.skip(f"{name} is in full only outside of the repository; set {OUTSIDE}")
    config, arrays, inputs = case_of(folder)
    loaded = load(folder / "checkpoint", state, weights, config["constructor"])
    assert difference(loaded, inputs, arrays[f"out_{state}__{weights}"]) < 5e-5


def test_each_set_of_weights():
    """All four of one file, from their shapes alone but for the groups of the norms."""
    folder = GOLDEN / "d_unet_pure"
    _, arrays, inputs = case_of(folder)
    loaded = load(folder / "weights.msgpack", "state", "params", {"norm_groups": 4})
    family = FlaxDiffUNet()
    with checkpoints.open_container(folder / "weights.msgpack") as container:
        for state, weights in OUTPUTS:
            choice = ({"params": "raw", "ema_params": "ema"}[weights], {"state": "last", "best_state": "best"}[state])
            name, root, notes = family.choose(container, *choice)
            assert (name, notes) == (choice[0], [])
            for variable, source in family.sources(container, root, loaded.network, loaded.config):
                value = container.read(source.names[0])
                variable.assign(value if source.combine is None else source.combine(value))
            assert difference(loaded, inputs, arrays[f"out_{state}__{weights}"]) < 5e-5


def test_report_and_conventions():
    folder = GOLDEN / "a_uncond_cosine_mish"
    loaded = checkpoints.load(folder / "weights.msgpack", config={"activation": "mish"}, verbose=0)
    text = str(loaded.report)
    assert "The file has no averaged weights (EMA); these are its raw weights." in text
    assert "code of 2024-06" in text and "The size of the images is not in the file" in text
    assert any("MultiHeadAttention_0" in name for name in loaded.report.ignored) and loaded.report.unused == []
    alpha, sigma = loaded.noise_schedule.levels(np.ones(1))[1:]
    assert alpha[0] < 1e-6 and abs(sigma[0] - 1) < 1e-6
    assert (type(loaded.predictor).__name__, loaded.predictor.condition, loaded.predictor.timesteps) == (
        "VPredictor",
        "timestep",
        1000,
    )
    assert loaded.config["activation"] == "mish" and loaded.config["time_embedding"] == "sinusoidal"


@pytest.mark.slow
def test_generate():
    config = json.loads((GOLDEN / "c_text_cfg_flashself" / "config.json").read_text())
    model = checkpoints.load(
        GOLDEN / "c_text_cfg_flashself" / "weights.msgpack", config=config, verbose=0
    ).diffusion_model()
    images = model.generate(2, conditions={"context": np.ones((2, 4, 32), "float32")}, num_steps=3, seed=0, verbose=0)
    assert images.shape == (2, 16, 16, 3) and np.isfinite(images).all()


class Shapes:
    """A container of shapes."""

    path, format = "run/1/default", "shapes"

    def __init__(self, shapes, root="state/params/params/", others=(), **metadata):
        named = {root + name: shape for name, shape in shapes.items()} | dict.fromkeys(others, ())
        self.tensors = {name: SimpleNamespace(shape=tuple(shape), dtype="float32") for name, shape in named.items()}
        self.metadata, self.root = metadata, root

    def config(self, **said):
        return FlaxDiffUNet().read_config(self, self.root, said)


def unet(widths=(8, 8, 16), text=None, flash=(), names="GroupNorm_0", up_conv=True, pure=()):
    """Shapes of what tells one network from another."""
    levels = len(widths)
    shapes = {"ConvLayer_0/conv/kernel": (3, 3, 3, widths[0]), "ConvLayer_1/conv/kernel": (3, 3, widths[0], widths[0])}
    if up_conv:
        shapes["ConvLayer_2/conv/kernel"] = (3, 3, widths[0], 3)
    shapes["TimeProjection_0/DenseGeneral_0/kernel"] = (32, 32)
    incoming = [widths[0], *widths[:-1]]
    blocks = {f"down_{i}_residual_0": incoming[i] for i in range(levels)} | {"final_residual": widths[0]}
    blocks |= {f"up_{levels - 1 - i}_residual_0": widths[i] for i in range(levels)}
    for name, width in blocks.items():
        shapes[f"{name}/conv1/conv/kernel"] = shapes[f"{name}/conv2/conv/kernel"] = (3, 3, width, width)
        shapes[f"{name}/temb_projection/kernel"] = (32, width)
        shapes[f"{name}/{names}/scale"] = shapes[f"{name}/{names}/bias"] = (width,)
    for i in range(levels - 1):
        shapes[f"down_{i}_downsample/ConvLayer_0/conv/kernel"] = (3, 3, incoming[i], widths[i])
    for i in (*flash, *pure):
        for path, width in ((f"down_{i}_attention_0", incoming[i]), (f"up_{levels - 1 - i}_attention_0", widths[i])):
            keys = width if text is None or i not in flash else text
            kernels = {"to_q": (width, width), "to_k": (keys, width), "to_v": (keys, width)}
            inner = f"{path}/Attention/" + ("" if i in flash else "Attention2/")
            shapes |= {
                f"{inner}{key}/kernel": shape if i in flash else (*shape[:1], 2, width // 2)
                for key, shape in kernels.items()
            }
            shapes[f"{path}/RMSNorm_0/scale"] = (width,)
    return shapes


def test_text_of_the_levels_own_width():
    """Whether flash attention of July 2024 took the text where its width is also the level's."""

    def over(shapes, **said):
        config = Shapes(shapes).config(**said)
        return (
            [entry and entry["attention_over"] for entry in config["attention"]],
            config["context_dim"],
            config["assumed"],
        )

    # On the way up the level has another width, which tells.
    assert over(unet((8, 8, 16), text=8, flash=(2,)))[:2] == ([None, None, "text_columns"], 8)
    # Finer levels than one with text have it too.
    assert over(unet((8, 8, 16), text=8, flash=(1, 2)))[:2] == ([None, "text_columns", "text_columns"], 8)
    # Nothing tells: no text, unless its shape and the image's are known.
    alone = unet((8, 8, 16), text=8, flash=(1,))
    assert over(alone)[:2] == ([None, "columns", None], None)
    facts = {"image_shape_hwc": [16, 16, 3], "text_shape": [4, 8]}
    assert over(alone, constructor={}, **facts)[:2] == ([None, "text_columns", None], 8)
    facts["text_shape"] = [8, 8]
    assert over(alone, constructor={}, **facts)[:2] == ([None, "columns", None], None)
    found = over(alone, constructor={}, text_shape=[4, 8])
    assert found[0][1] == "text_columns" and any("level 1 takes the text" in note for note in found[2])


def test_eras():
    def told(shapes, others=(), said=(), **metadata):
        config = Shapes(shapes, others=others, **metadata).config(**dict(said))
        return config["era"], config["norm_epsilon"], config["fourier_stream"]

    assert told(unet(up_conv=False)) == ("2024-07-06", 1e-6, "original")
    assert told(unet()) == ("2024-07-16", 1e-6, "original")
    assert told(unet(names="norm1")) == ("head", 1e-4, "partitionable")
    # The names of 2024 in present code: `named_norms`, or a train state as it is now.
    assert (
        told(unet(), said={"named_norms": True})
        == told(unet(), others=("epoch", "rngs/rng"))
        == ("head", 1e-4, "partitionable")
    )
    assert told(unet(pure=(1,))) == ("head", 1e-4, "partitionable")
    # Orbax notes the day of saving: 1 September 2024, 1 February 2025.
    assert told(unet(names="norm1"), init_timestamp_nsecs=1725148800 * 10**9) == ("head", 1e-6, "original")
    assert told(unet(names="norm1"), init_timestamp_nsecs=1738368000 * 10**9) == ("head", 1e-6, "partitionable")


@pytest.mark.parametrize(
    ("era", "residual", "epsilon"),
    [("2024-08-10", "raw", 1e-5), ("2024-10", "normalized", 1e-5), ("head", "normalized", 1e-4)],
)
def test_arithmetic_that_changed_under_the_same_names(era, residual, epsilon):
    entry = Shapes(unet(names="norm1", pure=(1,))).config(era=era)["attention"][1]
    assert (entry["residual"], entry["norm_epsilon"]) == (residual, epsilon)


def test_groups_are_those_that_are_possible():
    assert Shapes(unet((8, 16))).config()["norm_groups"] == 8
    assert Shapes(unet((4, 8))).config()["norm_groups"] == 4
    assert Shapes(unet((4, 8))).config(norm_groups=2)["norm_groups"] == 2
    with pytest.raises(CheckpointError, match="Received: norm_groups=3"):
        Shapes(unet((4, 8))).config(norm_groups=3)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"feature_depths": [8, 8, 8]}, "The shapes in the file say feature_depths=.* Received: feature_depths="),
        ({"emb_features": 64}, "say emb_features=32. Received: emb_features=64"),
        ({"attention_configs": [{}, None, None]}, "say levels with attention="),
        ({"widths": [8]}, "Unknown argument of a U-Net of FlaxDiff: 'widths'. Known: output_channels, "),
        ({"image_shape_hwc": [16, 16, 4]}, "say channels=3. Received: channels=4"),
    ],
)
def test_contradictions(said, text):
    with pytest.raises(CheckpointError, match=text):
        Shapes(unet()).config(**said)


def test_words_of_flaxdiff():
    assert activation_of("jax._src.nn.functions.silu") == "silu" and activation_of("mish") == "mish"
    assert activation_of("jax.nn.gelu") is gelu_tanh
    schedule, predictor = conventions({"noise_schedule": {"class": "KarrasVENoiseScheduler", "sigma_max": 20}})
    assert schedule.sigma_max == 20 and predictor.condition == "c_noise" and predictor.sigma_data == 0.5
    assert type(conventions({"predictor": "EpsilonPredictionTransform"})[1]).__name__ == "EpsilonPredictor"
    # The command line's flag had no effect.
    assert type(conventions({"noise_schedule": "cosine"})[0]).__name__ == "VarianceExplodingNoiseSchedule"
    assert fourier_stream(Shapes({}), {"versions": {"jax": "0.4.38"}})[0] == "original"
    assert fourier_stream(Shapes({}), {"versions": {"jax": "0.5.0"}})[0] == "partitionable"
    assert fourier_stream(Shapes({}), {"fourier_frequencies": "original_32"}) == ("original", ())


def test_shapes_that_only_merge():
    assert (
        merges((8, 4, 2), (8, 8))
        and merges((4, 2, 8), (8, 8))
        and merges((1, 1, 8, 16), (8, 16))
        and merges((8, 1, 4), (8, 4))
    )
    assert not merges((3, 5), (5, 3)) and not merges((8, 4, 2), (4, 16)) and not merges((8,), (4,))
