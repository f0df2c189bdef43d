"""Transformers of FlaxDiff give what FlaxDiff gave; names and shapes tell which they are."""

import itertools
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from calling import call
from golden_data import OUTSIDE, array

from keras_diffusion import checkpoints
from keras_diffusion.checkpoints.families.flaxdiff.transformers import FlaxDiffTransformer
from keras_diffusion.checkpoints.transfer import Report, transfer
from keras_diffusion.containers.errors import CheckpointError

GOLDEN = Path(__file__).parent.parent / "golden" / "flaxdiff"
CASES = ["d_uvit", "d_uvit_convout", "d_udit", "d_dit", "d_dit_hilbert", "d_dit_zigzag", "d_mmdit"]
OUTPUTS = [(state, weights) for state in ("state", "best_state") for weights in ("params", "ema_params")]


def outputs(folder, path, config, *which):
    """(largest difference to FlaxDiff's output, what was loaded)."""
    arrays = np.load(folder / "io.npz")
    names = {"x": "in_x", "noise_level": "in_temb", "context": "in_textcontext"}
    states, sets = {"state": "last", "best_state": "best"}, {"params": "raw", "ema_params": "ema"}
    loaded = checkpoints.load(folder / path, sets[which[1]], states[which[0]], config, verbose=0)
    result = call(loaded.network, {key: arrays[name] for key, name in names.items() if name in arrays.files})
    return np.abs(result - arrays["out_{}__{}".format(*which)]).max(), loaded


@pytest.mark.parametrize("name", CASES)
def test_outputs(name):
    path = "checkpoint" if name == "d_dit_hilbert" else "weights.msgpack"
    config = json.loads((GOLDEN / name / "config.json").read_text())
    difference, loaded = outputs(GOLDEN / name, path, config, "state", "params")
    # An absolute bound: outputs are of order 1, and a wrong choice of anything moves them by 1e-4 at least.
    assert difference < 5e-5
    assert (loaded.report.family, loaded.report.missing, loaded.report.unused) == ("flaxdiff_transformer", [], [])
    assert type(loaded.network).__name__ == config["model_class"] and loaded.network.sample_shape == (
        *config["image_shape_hwc"],
    )
    assert (type(loaded.predictor).__name__, loaded.predictor.condition) == ("EDMPredictor", "c_noise")


@pytest.mark.slow
@pytest.mark.parametrize("which", OUTPUTS)
@pytest.mark.parametrize("name", CASES)
def test_outputs_of_whole_checkpoints(name, which):
    folder = Path(os.environ.get(OUTSIDE, "")) / "flaxdiff" / name
    if OUTSIDE not in os.environ or not folder.is_dir():
        pytest.skip(f"{name} is in full only outside of the repository; set {OUTSIDE}")
    config = json.loads((folder / "config.json").read_text())
    assert outputs(folder, "checkpoint", config["constructor"], *which)[0] < 5e-5


def test_what_is_assumed_without_a_config():
    difference, loaded = outputs(GOLDEN / "d_dit_hilbert", "checkpoint", None, "state", "params")
    assert difference < 5e-5
    text = str(loaded.report)
    for words in (
        "Hilbert curve",
        "patches of 2×2 pixels with 3 channels",
        "is a variance, and dropped",
        "JAX from 0.5 on",
    ):
        assert words in text
    assert loaded.config["input_shape"] == [None, None, 3]


class Shapes:
    """A container of random numbers with the names and shapes of one set of weights."""

    path, format, root = "run/1/default", "shapes", "state/params/params/"

    def __init__(self, shapes, **metadata):
        self.shapes = shapes
        self.tensors = {
            self.root + name: SimpleNamespace(shape=tuple(shape), dtype="float32") for name, shape in shapes.items()
        }
        self.metadata = metadata

    def read(self, name):
        return np.random.RandomState(len(name)).normal(size=self.tensors[name].shape).astype("float32")

    def config(self, **said):
        return FlaxDiffTransformer().read_config(self, self.root, said)

    def load(self, **said):
        """The network, every variable and every tensor used."""
        family, config = FlaxDiffTransformer(), self.config(**said)
        assert family.recognizes(self)
        network = family.build(self, config).network
        report = Report(self.path, self.format, family.name, "raw")
        transfer(self, family.sources(self, self.root, network, config), network, report, verbose=0)
        return network, config


def dense(inputs, outputs):
    return {"kernel": (*inputs, *outputs), "bias": outputs}


def flat(tree, prefix=""):
    """{"a": {"b": shape}} as {"a/b": shape}."""
    shapes = {}
    for name, value in tree.items():
        shapes |= flat(value, f"{prefix}{name}/") if isinstance(value, dict) else {prefix + name: value}
    return shapes


def attention(width, heads=2, dim=4):
    kernels = {name: dense((width,), (heads, dim)) for name in ("to_q", "to_k", "to_v")}
    return {**kernels, "to_out_0": {"kernel": (heads, dim, width), "bias": (width,)}}


def block(width, mixer=None, modulation=None):
    modulation = modulation or {"ada_params_module": {"ada_proj": dense((width,), (6 * width,))}}
    return {
        **modulation,
        **(mixer or {"attention": attention(width)}),
        "mlp": {"layers_0": dense((width,), (3 * width,)), "layers_2": dense((3 * width,), (width,))},
    }


def mm_block(width):
    parts = {f"ada_{part}_proj": dense((width,), (6 * width,)) for part in ("t", "text")}
    return block(width, modulation={"ada_ln_zero": parts})


def ssm_block(width, n=5, bidirectional=True, fusion=False):
    matrices = {f"{m}_{part}": (n, width) if m == "B" else (width, n) for m in "BC" for part in ("re", "im")}
    space = {"log_A_real": (n,), "A_imag": (n,), "log_dt": (n,), "D": (width,), **matrices}
    both = {"s5_forward": space, "s5_backward": space, "out_proj": dense((2 * width,), (width,))}
    convolutions = {"spatial_fusion": {f"conv_{rate}": {"kernel": (3, 3, 1, width)} for rate in (1, 2, 3)}}
    return block(width, {"ssm": both if bidirectional else space, **(convolutions if fusion else {})})


def network(width, blocks, wide=None, patches=None, outputs=12, text="text_context_proj", time="time_embed"):
    wide = wide or width
    norm = {"scale": (width,), "bias": (width,)}
    hidden = 3 * wide
    steps = {"layers_1": {"DenseGeneral_0": dense((wide,), (hidden,)), "DenseGeneral_1": dense((hidden,), (hidden,))}}
    tree = {time: {**steps, "layers_2": dense((hidden,), (wide,))}, text: dense((7,), (wide,)), "final_norm": norm}
    tree |= patches or {"patch_embed": {"Conv_0": dense((2, 2, 3), (width,))}}
    return flat({**tree, **blocks, "final_proj": dense((width,), (outputs,))})


def hierarchy(widths=(8, 12, 16), depths=(1, 2, 1), **options):
    blocks = {}
    for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        ways = ("encoder", "decoder") if i < len(widths) - 1 else ("encoder",)
        blocks |= {f"{way}_block_stage{i}_{j}": mm_block(width) for way in ways for j in range(depth)}
        blocks |= {f"{part}_emb_proj_stage{i}": dense((widths[-1],), (width,)) for part in ("t", "text")}
    for i, (fine, coarse) in enumerate(itertools.pairwise(widths)):
        norms = {"norm": {"scale": (4 * fine,), "bias": (4 * fine,)}}
        blocks[f"patch_merger_{i}"] = {**norms, "projection": dense((4 * fine,), (coarse,))}
        blocks[f"patch_expander_{i}"] = {**norms, "projection": dense((coarse,), (4 * fine,))}
        blocks[f"fusion_norm_{i}"] = {"scale": (2 * fine,), "bias": (2 * fine,)}
        blocks[f"fusion_dense_{i}"] = dense((2 * fine,), (fine,))
    return network(widths[0], blocks, widths[-1], text="text_context_proj_base", time="time_embed_base", **options)


def test_hierarchy():
    shapes = Shapes(hierarchy())
    loaded, config = shapes.load(num_layers=(1, 2, 1), base_patch_size=2)
    assert type(loaded).__name__ == "HierarchicalMMDiT" and loaded.count_params() == sum(
        np.prod(s, dtype=int) for s in shapes.shapes.values()
    )
    assert (config["emb_features"], config["head_dim"], config["mlp_ratio"]) == ([8, 12, 16], [4, 4, 4], 3)
    assert config["rotary"] and not config["sincos_position"] and config["flaxdiff_compatible"]


@pytest.mark.parametrize("bidirectional", [True, False])
def test_state_spaces(bidirectional):
    kinds = {
        "ssm_block_0": ssm_block(8, 5, bidirectional, True),
        "dit_block_1": block(8),
        "ssm_block_2": ssm_block(8, 5, bidirectional, True),
    }
    shapes = Shapes(network(8, kinds))
    loaded, config = shapes.load(ssm_attention_ratio="1:1", use_2d_fusion=True, block_pattern=None)
    assert (config["block_pattern"], config["ssm_state_dim"], config["bidirectional_ssm"]) == (
        ["ssm", "attn", "ssm"],
        5,
        bidirectional,
    )
    space = loaded.get_layer("ssm_block_2").mixer
    place = f"{Shapes.root}ssm_block_2/ssm/{'s5_forward/' if bidirectional else ''}"
    np.testing.assert_array_equal(array(space.b_imag), shapes.read(place + "B_im").T)
    np.testing.assert_array_equal(array(space.c_real), shapes.read(place + "C_re").T)
    assert config["sincos_position"] and config["rotary"]


def test_state_spaces_of_the_release():
    """FlaxDiff 0.2.11 adds the two directions up before the projection, and has a step for each channel, of which it
    takes the mean.
    """
    early = ssm_block(8)
    early["ssm"]["out_proj"] = dense((8,), (8,))
    for way in ("s5_forward", "s5_backward"):
        early["ssm"][way] = {**early["ssm"][way], "log_dt": (8,)}
    shapes = Shapes(network(8, {"ssm_block_0": early}))
    loaded, config = shapes.load()
    assert not config["sincos_position"] and config["rotary"]
    block, place = loaded.get_layer("ssm_block_0"), f"{Shapes.root}ssm_block_0/ssm/"
    steps = np.exp(shapes.read(place + "s5_backward/log_dt"))
    np.testing.assert_allclose(np.exp(array(block.backward.log_dt)), np.full(5, steps.mean()), rtol=1e-6)
    a, b = np.random.default_rng(0).standard_normal((2, 3, 8)).astype("float32")
    expected = (a + b) @ shapes.read(place + "out_proj/kernel") + shapes.read(place + "out_proj/bias")
    np.testing.assert_allclose(array(block.out(np.concatenate([a, b], axis=1))), expected, rtol=1e-4, atol=1e-5)


def test_widths_that_heads_do_not_divide():
    assert Shapes(network(10, {"mmdit_block_0": mm_block(10)})).load()[1]["head_dim"] == 4


def test_positions_came_later():
    """DiT's positions changed on 14 April 2026 under the same names; Orbax notes the day of saving."""

    def told(day, said=(), **options):
        config = Shapes(
            network(8, {"dit_block_0": block(8)}, **options),
            **({"init_timestamp_nsecs": day * 86400 * 10**9} if day else {}),
        )
        config = config.config(**dict(said))
        return config["sincos_position"], config["rotary"], config["patch_order"]

    curve = {"patches": {"hilbert_projection": dense((12,), (8,))}}
    assert told(20556) == (False, True, "raster") and told(20557) == told(None) == (True, True, "raster")
    assert told(20556, **curve) == (False, True, "hilbert_cropped") and told(None, **curve) == (
        True,
        False,
        "hilbert_cropped",
    )
    assert told(None, {"use_zigzag": True}, **curve)[2] == "zigzag"
    assert told(None, {"sincos_position": False, "rotary": True}, **curve)[:2] == (False, True)


@pytest.mark.parametrize(
    ("values", "outputs", "said", "expected"),
    [
        (12, 12, {}, (2, 3, 3, False)),
        (12, 24, {}, (2, 3, 3, True)),
        (12, 24, {"output_channels": 6}, (2, 3, 6, False)),
        (16, 16, {}, (2, 4, 4, False)),
        (64, 64, {}, (4, 4, 4, False)),
        (64, 64, {"patch_size": 8}, (8, 1, 1, False)),
        (64, 64, {"image_shape_hwc": (16, 16, 16)}, (2, 16, 16, False)),
        (80, 80, {}, (4, 5, 5, False)),
    ],
)
def test_patches_that_were_flattened(values, outputs, said, expected):
    shapes = network(
        8, {"dit_block_0": block(8)}, patches={"hilbert_projection": dense((values,), (8,))}, outputs=outputs
    )
    config = Shapes(shapes).config(constructor={k: v for k, v in said.items() if k != "image_shape_hwc"}, **said)
    assert (config["patch_size"], config["input_shape"][-1], config["out_channels"], config["learn_sigma"]) == expected


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"num_layers": 3}, "The shapes in the file say num_layers=1. Received: num_layers=3"),
        ({"patch_size": 4}, "say patch_size=2. Received: patch_size=4"),
        ({"output_channels": 4}, "say output_channels=3. Received: output_channels=4"),
        ({"learn_sigma": True}, "say learn_sigma=False. Received: learn_sigma=True"),
        ({"image_shape_hwc": [16, 16, 4]}, "say channels=3. Received: channels=4"),
        ({"depth": 3}, "Unknown argument of a transformer of FlaxDiff: 'depth'. Known: output_channels, "),
    ],
)
def test_contradictions(said, text):
    with pytest.raises(CheckpointError, match=text):
        Shapes(network(8, {"dit_block_0": block(8)})).config(**said)


def test_kernels_without_heads():
    shapes = network(8, {"dit_block_0": block(8)}) | {"dit_block_0/attention/to_q/kernel": (8, 8)}
    with pytest.raises(CheckpointError, match=r"use_flash_attention=True are not supported"):
        Shapes(shapes).config()
