"""FlaxDiff's U-Net for videos gives what FlaxDiff gave, and what the file does not say is said or asked for."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from calling import call

from keras_diffusion import checkpoints
from keras_diffusion.checkpoints.families import Diffusers
from keras_diffusion.checkpoints.families.flaxdiff.unet_3d import FlaxDiffUNet3D
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.networks import UNet3D

FOLDER = Path(__file__).parent.parent / "golden" / "flaxdiff" / "e_unet3d"
CONFIG = json.loads((FOLDER / "config.json").read_text())
ARRAYS = np.load(FOLDER / "io.npz")
INPUTS = {"x": ARRAYS["in_x"], "noise_level": ARRAYS["in_temb"], "context": ARRAYS["in_textcontext"]}


@pytest.fixture(scope="module")
def loaded():
    return checkpoints.load(FOLDER / "weights.msgpack", config=CONFIG, verbose=0)


def test_outputs(loaded):
    """Another epsilon of the convolutions along time moves the output by 3e-5 of its maximum, an exact gelu by 4e-4."""
    expected = ARRAYS["out_params"]
    assert loaded.report.family == "flaxdiff_unet3d" and loaded.report.unused == loaded.report.missing == []
    assert np.abs(call(loaded.network, INPUTS) - expected).max() < 1.5e-5 * np.abs(expected).max()


def test_neighbours_mix_as_they_did(loaded):
    """The last frame of the first video lies beside the first one of the second, for kernels over three frames."""
    assert loaded.network.get_config()["flaxdiff_compatible"] is True
    changed = {**INPUTS, "x": INPUTS["x"].copy()}
    changed["x"][1] += 1.0
    assert np.abs(call(loaded.network, changed)[0] - ARRAYS["out_params"][0]).max() > 1e-2
    assert "depends on its neighbours" in str(loaded.report)


def test_report_and_conventions(loaded):
    assert loaded.network.sample_shape == (3, 8, 8, 3) and loaded.network.condition_keys == ("context",)
    assert (
        type(loaded.noise_schedule).__name__ == "VarianceExplodingNoiseSchedule"
        and loaded.predictor.condition == "c_noise"
    )
    assert loaded.diffusion_model().sample_shape == (3, 8, 8, 3)
    assert "The file has no averaged weights (EMA); these are its raw weights." in str(loaded.report)
    assert "Assumed" not in str(loaded.report)


def unet(levels=3, attention=(True, True, False), upwards=None, text=6, depth=1, linear=False):
    """Shapes of what tells one network from another: what a network of ours needs, under FlaxDiff's names."""
    widths = [32 * (i + 1) for i in range(levels)]
    shapes = {
        "conv_in/kernel": (3, 3, 3, 4, 32),
        "conv_out/kernel": (3, 3, 3, 32, 4),
        "time_embedding/linear_1/kernel": (32, 128),
    }
    shapes["mid_block/temp_convs_0/Conv_0/kernel"] = (3, 1, 1, widths[-1], widths[-1])
    places = ["mid_block"]
    for i, width in enumerate(widths):
        for j in range(2):
            shapes[f"down_blocks_{i}/resnets_{j}/conv1/kernel"] = (3, 3, width, width)
        places += [f"down_blocks_{i}"] if attention[i] else []
        places += [f"up_blocks_{levels - 1 - i}"] if (upwards or attention)[i] else []
    for place in places:
        shapes[f"{place}/attentions_0/norm/scale"] = (32,)
    shapes["mid_block/attentions_0/proj_in/kernel"] = (32, 32) if linear else (1, 1, 32, 32)
    shapes["mid_block/temp_attentions_0/proj_in/kernel"] = (32, 32)
    for k in range(depth):
        shapes[f"mid_block/attentions_0/transformer_blocks_{k}/attn2/to_k/kernel"] = (text, 32)
    return shapes


class Shapes:
    """A container of shapes."""

    path, format, metadata = Path("run/1/default"), "shapes", {}

    def __init__(self, shapes, root="params/"):
        self.tensors = {
            root + name: SimpleNamespace(shape=tuple(shape), dtype="float32") for name, shape in shapes.items()
        }
        self.root, self.roots = root, [""]

    def config(self, **said):
        return FlaxDiffUNet3D().read_config(self, self.root, said)


def test_what_shapes_tell():
    config = Shapes(unet(depth=2)).config()
    assert (config["widths"], config["num_res_blocks"], config["attention"]) == ([32, 64, 96], 2, [True, True, False])
    assert (config["context_dim"], config["transformer_depth"], config["num_heads"]) == (6, 2, 8)
    assert (config["input_shape"], config["out_channels"], config["time_dim"]) == ([None, None, None, 4], 4, 128)
    assert ["8 heads" in note or "size of the videos" in note for note in config["assumed"]] == [True, True]
    said = {
        "attention_head_dim": (2, 4, 4),
        "sample_size": 16,
        "transformer_layers_per_block": (2, 2, 2),
        "flip_sin_to_cos": False,
    }
    config = Shapes(unet(depth=2)).config(**said, down_block_types=("CrossAttnDownBlock3D",) * 2 + ("DownBlock3D",))
    assert (config["num_heads"], config["input_shape"], config["cos_first"]) == ([2, 4, 4], [16, 16, 16, 4], False)
    assert config["assumed"] == []


def test_every_layer_of_two_levels_has_its_place():
    """Levels on the way up are counted from the coarsest; one layer stands between two levels."""
    network = UNet3D(
        (2, 4, 4, 4), widths=(4, 8), num_res_blocks=1, num_heads=2, context_dim=6, norm_groups=2, transformer_depth=2
    )
    pairs = list(FlaxDiffUNet3D().layers(network, {"widths": [4, 8]}))
    names = {name for _, name in pairs}
    assert len(names) == len(pairs) and sum(len(layer.weights) for layer, _ in pairs) == len(network.weights)
    assert {
        "down_blocks_0/downsamplers_0/conv",
        "up_blocks_0/upsamplers_0/conv",
        "up_blocks_0/resnets_1/conv_shortcut",
    } <= names
    assert {"up_blocks_1/temp_attentions_1/transformer_blocks_1/attn2/to_q", "mid_block/temp_convs_1/Conv_3"} <= names
    assert not any(name.startswith(("up_blocks_0/attentions", "down_blocks_1/attentions")) for name in names)


def test_what_it_is_not():
    family = FlaxDiffUNet3D()
    assert family.recognizes(Shapes(unet()))
    images = {**unet(), "conv_in/kernel": (3, 3, 4, 32)}
    assert not family.recognizes(Shapes(images))
    # diffusers' U-Net for images has the same names but for the layers along time.
    ends = {"conv_norm_out/scale": (32,), "down_blocks_0/attentions_0/transformer_blocks_0/attn2/to_k/kernel": (6, 32)}
    along_time = {name for name in unet() if "temp_" in name}
    for shapes, mine in (
        (unet() | ends, False),
        ({key: value for key, value in (images | ends).items() if key not in along_time}, True),
    ):
        assert Diffusers().recognizes(Shapes(shapes)) == mine


@pytest.mark.parametrize(
    ("shapes", "said", "text"),
    [
        (
            {},
            {"block_out_channels": [32, 64]},
            r"say block_out_channels=\[32, 64, 96\]. Received: block_out_channels=\[32, 64\]",
        ),
        ({}, {"transformer_layers_per_block": 2}, "say transformer_depth=1|say transformer_layers_per_block=1"),
        ({}, {"use_linear_projection": True}, "say use_linear_projection=False"),
        ({}, {"up_block_types": ["UpBlock3D"] * 3}, "say up_block_types="),
        ({}, {"num_attention_heads": 4}, "Received: {'num_attention_heads': 4}"),
        ({}, {"widths": [8]}, "Unknown argument of a U-Net for videos of FlaxDiff: 'widths'. Known: in_channels, "),
        (
            {"upwards": (True, False, False)},
            {},
            r"on the way down \[True, True, False\], on the way up \[True, False, False\]",
        ),
    ],
)
def test_contradictions(shapes, said, text):
    with pytest.raises(CheckpointError, match=text):
        Shapes(unet(**shapes)).config(**said)


def test_embeddings_that_are_not_known():
    with pytest.raises(CheckpointError, match="Received: weights of the name add_embedding"):
        Shapes({**unet(), "add_embedding/linear_1/kernel": (38, 128)}).config()


def test_heads_that_do_not_fit_a_width():
    container = Shapes(unet())
    config = container.config(attention_head_dim=5)
    with pytest.raises(
        CheckpointError, match="does not describe a U-Net for videos of FlaxDiff. Heads cut the channels"
    ):
        FlaxDiffUNet3D().build(container, config)
