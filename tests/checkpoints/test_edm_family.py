"""Pickles as EDM writes them, against the arithmetic of its networks written out in PyTorch below."""

import math
import pickle
import sys
import types

import numpy as np
import pytest
from keras import ops

import keras_diffusion
from keras_diffusion import checkpoints
from keras_diffusion.checkpoints import CheckpointError
from keras_diffusion.core.levels import Levels
from keras_diffusion.runtime.compile import Compiled, as_tensors

torch = pytest.importorskip("torch")
F = torch.nn.functional

DDPMPP = {"channels": 16, "mult": (1, 2), "labels": 3, "augment": 9}
NCSNPP = {"channels": 16, "mult": (1, 2, 1), "attention": (2,), "taps": (1, 3, 3, 1), "fourier": True}
ADM = {"channels": 64, "mult": (1, 1), "labels": 3, "song": False, "out": 6}
CASES = {"EDMPrecond": DDPMPP, "VEPrecond": NCSNPP, "iDDPMPrecond": ADM}
SIZE = 8


def make_state(channels, mult, attention=(4,), labels=0, augment=0, taps=(1, 1), fourier=False, song=True, out=3):
    """Random weights and buffers under EDM's names, of a network for 8 × 8 with one block per level."""
    rng, state = np.random.default_rng(0), {}
    noise = channels * (2 if fourier else 1)

    def add(name, *shape, bias=True):
        scale = 0.1 if len(shape) == 1 else 1 / math.sqrt(math.prod(shape[1:]))
        values = rng.normal(size=shape) * scale + (1.0 if len(shape) == 1 else 0.0)
        state[f"{name}.weight"] = torch.tensor(values, dtype=torch.float32)
        if bias:
            state[f"{name}.bias"] = torch.tensor(rng.normal(size=shape[:1]) * 0.1, dtype=torch.float32)

    def filtered(name):
        f = torch.tensor(taps, dtype=torch.float32)
        state[f"{name}.resample_filter"] = (torch.outer(f, f) / f.sum() ** 2)[None, None]

    def block(name, width, wide, attends=False, changes=False):
        add(f"{name}.norm0", width)
        add(f"{name}.conv0", wide, width, 3, 3)
        add(f"{name}.affine", wide * (1 if song else 2), 4 * channels)
        add(f"{name}.norm1", wide)
        add(f"{name}.conv1", wide, wide, 3, 3)
        if width != wide or (changes and song):
            add(f"{name}.skip", wide, width, 1, 1)
        if changes:
            filtered(f"{name}.conv0")
            filtered(f"{name}.skip")
        if attends:
            add(f"{name}.norm2", wide)
            add(f"{name}.qkv", 3 * wide, wide, 1, 1)
            add(f"{name}.proj", wide, wide, 1, 1)

    if fourier:
        state["map_noise.freqs"] = torch.tensor(rng.normal(size=noise // 2), dtype=torch.float32)
    if labels:
        add("map_label", noise if song else 4 * channels, labels, bias=song)
    if augment:
        add("map_augment", noise, augment, bias=False)
    add("map_layer0", 4 * channels, noise)
    add("map_layer1", 4 * channels, 4 * channels)
    width = path = 3
    skips = []
    for i, m in enumerate(mult):
        res = f"{SIZE >> i}x{SIZE >> i}"
        if i == 0:
            width = channels if song else channels * m
            add(f"enc.{res}_conv", width, 3, 3, 3)
        else:
            block(f"enc.{res}_down", width, width, changes=True)
            if fourier:
                add(f"enc.{res}_aux_residual", width, path, 3, 3)
                filtered(f"enc.{res}_aux_residual")
                path = width
        block(f"enc.{res}_block0", width, channels * m, SIZE >> i in attention)
        skips += [width, channels * m]
        width = channels * m
    for i, m in reversed(list(enumerate(mult))):
        res = f"{SIZE >> i}x{SIZE >> i}"
        if i == len(mult) - 1:
            block(f"dec.{res}_in0", width, width, True)
            block(f"dec.{res}_in1", width, width)
        else:
            block(f"dec.{res}_up", width, width, changes=True)
        for j in range(2):
            block(
                f"dec.{res}_block{j}",
                width + skips.pop(),
                channels * m,
                SIZE >> i in attention and (j == 1 or not song),
            )
            width = channels * m
    for name, shape in (("norm", (width,)), ("conv", (out, width, 3, 3))):
        add(f"dec.{SIZE}x{SIZE}_aux_{name}" if song else f"out_{name}", *shape)
    return state


def reference(state, x, c, labels=None, song=True):
    """What the network computes. `x` and the result: (B, C, H, W); `labels`: one-hot vectors."""
    scale, epsilon = (math.sqrt(0.5), 1e-6) if song else (1.0, 1e-5)

    def apply(function, name, value, **options):
        return function(value, state[f"{name}.weight"], state.get(f"{name}.bias"), **options)

    def norm(name, h):
        return F.group_norm(h, min(32, h.shape[1] // 4), state[f"{name}.weight"], state[f"{name}.bias"], epsilon)

    def resample(name, h, up, padded=True):
        """Up: zeros between the positions, then the filter with a gain of 4, as it stands mirrored."""
        if f"{name}.resample_filter" not in state:
            return h
        kernel = state[f"{name}.resample_filter"].repeat(h.shape[1], 1, 1, 1)
        taps = kernel.shape[-1]
        if not up:
            return F.conv2d(h, kernel, stride=2, groups=h.shape[1], padding=taps // 2 - 1 if padded else 0)
        spread = torch.zeros(*h.shape[:2], 2 * h.shape[2], 2 * h.shape[3])
        spread[:, :, ::2, ::2] = h
        sides = (taps // 2, taps // 2 - 1) * 2
        return F.conv2d(F.pad(spread, sides), 4 * kernel.flip(2, 3), groups=h.shape[1])

    def block(name, h, up=False):
        inner = apply(
            F.conv2d, f"{name}.conv0", resample(f"{name}.conv0", F.silu(norm(f"{name}.norm0", h)), up), padding=1
        )
        time = apply(F.linear, f"{name}.affine", emb)[:, :, None, None]
        if song:
            inner = norm(f"{name}.norm1", inner + time)
        else:
            factor, shift = time.chunk(2, 1)
            inner = norm(f"{name}.norm1", inner) * (1 + factor) + shift
        inner = apply(F.conv2d, f"{name}.conv1", F.silu(inner), padding=1)
        h = resample(f"{name}.skip", h, up)
        h = apply(F.conv2d, f"{name}.skip", h) if f"{name}.skip.weight" in state else h
        h = (h + inner) * scale
        if f"{name}.qkv.weight" not in state:
            return h
        batch, width, *size = h.shape
        heads = 1 if song else width // 64
        q, k, v = (
            apply(F.conv2d, f"{name}.qkv", norm(f"{name}.norm2", h))
            .reshape(batch, heads, width // heads, 3, -1)
            .unbind(3)
        )
        weights = torch.softmax(torch.einsum("bhdi,bhdj->bhij", q, k) / math.sqrt(width // heads), -1)
        mixed = torch.einsum("bhij,bhdj->bhdi", weights, v).reshape(batch, width, *size)
        return (h + apply(F.conv2d, f"{name}.proj", mixed)) * scale

    if "map_noise.freqs" in state:
        angle = 2 * math.pi * c[:, None] * state["map_noise.freqs"]
    else:
        half = state["map_layer0.weight"].shape[1] // 2
        angle = c[:, None] * 10000.0 ** (-torch.arange(half) / (half - int(song)))
    emb = torch.cat([angle.sin(), angle.cos()] if song else [angle.cos(), angle.sin()], 1)
    if labels is not None and song:
        emb = emb + apply(F.linear, "map_label", labels * math.sqrt(labels.shape[1]))
    emb = apply(F.linear, "map_layer1", F.silu(apply(F.linear, "map_layer0", emb)))
    if labels is not None and not song:
        emb = emb + apply(F.linear, "map_label", labels)
    emb = F.silu(emb)
    sizes = [SIZE >> i for i in range(4) if f"enc.{SIZE >> i}x{SIZE >> i}_block0.norm0.weight" in state]
    h = path = x
    skips = []
    for i, size in enumerate(sizes):
        name = f"enc.{size}x{size}"
        h = block(f"{name}_down", h) if i else apply(F.conv2d, f"{name}_conv", h, padding=1)
        if f"{name}_aux_residual.weight" in state:
            taps = state[f"{name}_aux_residual.resample_filter"].shape[-1]
            wide = F.conv2d(path, state[f"{name}_aux_residual.weight"], padding=taps // 2)
            filtered = resample(f"{name}_aux_residual", wide, False, padded=False)
            h = path = (h + filtered + state[f"{name}_aux_residual.bias"][:, None, None]) / math.sqrt(2)
        skips.append(h)
        h = block(f"{name}_block0", h)
        skips.append(h)
    for i, size in enumerate(reversed(sizes)):
        name = f"dec.{size}x{size}"
        h = block(f"{name}_up", h, up=True) if i else block(f"{name}_in1", block(f"{name}_in0", h))
        for j in range(2):
            h = block(f"{name}_block{j}", torch.cat([h, skips.pop()], 1))
    end = f"dec.{SIZE}x{SIZE}_aux_" if song else "out_"
    return apply(F.conv2d, f"{end}conv", F.silu(norm(f"{end}norm", h)), padding=1)


# The pickle: classes that are pickled as torch_utils.persistence does it.


def _reconstruct_persistent_obj(meta):
    raise AssertionError("the source in the file was about to be run")


class Persistent(torch.nn.Module):
    def __init__(self, class_name, **kwargs):
        super().__init__()
        self._class_name, self._init_args, self._init_kwargs = class_name, (), kwargs

    def __reduce__(self):
        state = {key: value for key, value in self.__dict__.items() if key != "_class_name"}
        meta = {
            "type": "class",
            "version": 6,
            "module_src": "raise SystemExit",
            "class_name": self._class_name,
            "state": state,
        }
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,), None


def write(path, state, class_name, **kwargs):
    """A pickle of an EDM network with these weights under "ema"."""
    network = Persistent(class_name, **kwargs)
    for name, value in {f"model.{name}": value for name, value in state.items()}.items():
        *parents, leaf = name.split(".")
        module = network
        for parent in parents:
            if parent not in module._modules:
                module.add_module(parent, Persistent("Part"))
            module = module._modules[parent]
        if leaf in ("resample_filter", "freqs"):
            module.register_buffer(leaf, value)
        else:
            module.register_parameter(leaf, torch.nn.Parameter(value))
    loss = Persistent("EDMLoss", P_mean=-1.0, P_std=1.1)
    with pytest.MonkeyPatch.context() as patch:
        stand_in = types.ModuleType("torch_utils.persistence")
        stand_in._reconstruct_persistent_obj = _reconstruct_persistent_obj
        patch.setitem(sys.modules, "torch_utils", types.ModuleType("torch_utils"))
        patch.setitem(sys.modules, "torch_utils.persistence", stand_in)
        patch.setattr(_reconstruct_persistent_obj, "__module__", "torch_utils.persistence")
        path.write_bytes(pickle.dumps({"ema": network, "loss_fn": loss, "dataset_kwargs": {"path": "a.zip"}}))
    return path


def arguments(has, **kwargs):
    """The arguments with which such a network is made."""
    song, fourier = has.get("song", True), has.get("fourier", False)
    known = {
        "img_resolution": SIZE,
        "img_channels": 3,
        "label_dim": has.get("labels", 0),
        "model_channels": has["channels"],
    }
    known |= {
        "channel_mult": list(has["mult"]),
        "num_blocks": 1,
        "attn_resolutions": [16, *has.get("attention", (4,))],
        "dropout": 0.1,
    }
    if song:
        known |= {
            "model_type": "SongUNet",
            "resample_filter": list(has.get("taps", (1, 1))),
            "augment_dim": has.get("augment", 0),
        }
        known |= {"embedding_type": "fourier", "encoder_type": "residual", "channel_mult_noise": 2} if fourier else {}
    return {**known, **kwargs}


@pytest.fixture(scope="module")
def states():
    return {name: make_state(**has) for name, has in CASES.items()}


@pytest.fixture(scope="module")
def files(states, tmp_path_factory):
    folder = tmp_path_factory.mktemp("edm")
    return {name: write(folder / f"{name}.pkl", states[name], name, **arguments(has)) for name, has in CASES.items()}


@pytest.mark.parametrize(
    "name", [name if name == "EDMPrecond" else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_same_numbers_as_the_arithmetic(name, states, files):
    has, rng = CASES[name], np.random.default_rng(1)
    loaded = checkpoints.load(files[name], verbose=0)
    inputs = {"x": rng.normal(size=(2, 8, 4, 3)).astype("float32"), "noise_level": np.array([-1.3, 0.9], "float32")}
    one_hot = None
    if has.get("labels"):
        inputs["labels"] = np.array([2, 0])
        one_hot = torch.eye(3)[[2, 0]]
    x = torch.tensor(np.moveaxis(inputs["x"], -1, 1).copy())
    expected = reference(states[name], x, torch.tensor(inputs["noise_level"]), one_hot, has.get("song", True))
    expected = np.moveaxis(expected.numpy(), 1, -1) * (-1 if name == "VEPrecond" else 1)
    output = ops.convert_to_numpy(Compiled(loaded.network)(as_tensors(inputs)))
    assert np.abs(output - expected).max() < 1e-4 * np.abs(expected).max()
    report = loaded.report
    assert (report.family, report.weights, report.unused, report.missing) == ("nvidia_edm", "ema", [], [])
    assert any("augmentations" in note for note in report.notes) == ("augment" in has)


def denoised(name, sigma, x, output):
    """EDM's table 1: what x with noise σ becomes, given the network's output; and (c_in, c_noise)."""
    if name == "EDMPrecond":
        total = sigma**2 + 0.25
        return 0.25 / total * x + 0.5 * sigma / math.sqrt(total) * output, 1 / math.sqrt(total), math.log(sigma) / 4
    if name == "VEPrecond":
        return x + sigma * output, 1.0, math.log(sigma / 2)
    c_in = 1 / math.sqrt(sigma**2 + 1)
    if name == "VPPrecond":
        t = (math.sqrt(0.1**2 + 2 * 19.9 * math.log(1 + sigma**2)) - 0.1) / 19.9
        return x - sigma * output, c_in, 999 * t
    cosine = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2
    levels = np.sqrt(1 / np.cumprod(np.maximum(cosine[1:] / cosine[:-1], 0.001)) - 1)
    return x - sigma * output, c_in, float(np.interp(math.log(sigma), np.log(levels), np.arange(1000)))


@pytest.mark.parametrize("name", ["EDMPrecond", "VPPrecond", "VEPrecond", "iDDPMPrecond"])
def test_preconditioning(name, states, files):
    told = {"class_name": name} if name == "VPPrecond" else None
    loaded = checkpoints.load(files["EDMPrecond" if told else name], config=told, verbose=0)
    sigma, rng = 1.7, np.random.default_rng(2)
    x, output = rng.normal(size=(2, 1, 2, 2, 3)).astype("float32")
    schedule, predictor = loaded.noise_schedule, loaded.predictor
    level = schedule.levels(schedule.time(-2.0 * math.log(sigma)))
    level = Levels(*(ops.convert_to_tensor(np.float32(v)) for v in level))
    expected, c_in, c_noise = denoised(name, sigma, x, output)
    alpha = float(level.alpha)
    assert float(predictor.input_scale(level.alpha, level.sigma)) * alpha == pytest.approx(c_in, rel=1e-4)
    assert float(predictor.noise_condition(level)) == pytest.approx(c_noise, rel=1e-3)
    # The last convolution of a VEPrecond is negated.
    given = -output if name == "VEPrecond" else output
    np.testing.assert_allclose(
        predictor.split(given, alpha * x, level.alpha, level.sigma).x0, expected, rtol=1e-3, atol=1e-4
    )
    levels = {"name": "log_normal_sigma", "mean": -1.0, "std": 1.1}
    assert loaded.options.get("time_distribution") == (levels if name == "EDMPrecond" else None)


def test_zeros_stand_for_no_class(states, files):
    song = checkpoints.load(files["EDMPrecond"], config={"label_dropout": 0.1}, verbose=0)
    assert song.network.null_labels == 3 and song.options["condition_dropout"] == 0.1
    table = ops.convert_to_numpy(song.network.get_layer("label_embedding").table.weights[0])
    np.testing.assert_array_equal(table[3], states["EDMPrecond"]["map_label.bias"].numpy())
    plain = checkpoints.load(files["EDMPrecond"], verbose=0)
    assert plain.network.null_labels is None and plain.options["condition_dropout"] == 0.0
    adm = checkpoints.load(files["iDDPMPrecond"], config={"label_dropout": 0.1}, verbose=0).network
    np.testing.assert_array_equal(ops.convert_to_numpy(adm.get_layer("label_embedding").table.weights[0])[3], 0.0)


def test_inspects(files):
    found = checkpoints.inspect(files["VEPrecond"])
    assert found.family == "nvidia_edm" and found.weights == ("ema",) and found.problem is None
    assert found.config["resample_filter"] == [1, 3, 3, 1] and found.config["encoder_type"] == "residual"
    assert found.config["channel_mult"] == [1, 2, 1] and found.config["channel_mult_noise"] == 2
    assert (found.config["attn_resolutions"], found.config["sigma_max"], found.config["dropout"]) == ([2], 100.0, 0.1)


@pytest.mark.slow
def test_converts(files, tmp_path):
    report = checkpoints.convert(files["EDMPrecond"], tmp_path / "preset", verbose=0)
    model = keras_diffusion.DiffusionModel.from_preset(tmp_path / "preset")
    assert (
        report.family == "nvidia_edm"
        and type(model.predictor).__name__ == "EDMPredictor"
        and model.sample_shape == (8, 8, 3)
    )
    loaded = checkpoints.load(files["EDMPrecond"], verbose=0).network
    for a, b in zip(model.average.network.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_bare_state_dict(states, tmp_path):
    """Of the whole network, as `ema.state_dict()` gives it; its class is not in the file."""
    torch.save({f"model.{name}": value for name, value in states["EDMPrecond"].items()}, tmp_path / "net.pt")
    loaded = checkpoints.load(tmp_path / "net.pt", weights="raw", verbose=0)
    assert loaded.report.notes[0].startswith("The file does not say how the network is preconditioned")


@pytest.mark.parametrize(
    "change, told, text",
    [
        ({}, {"model_channels": 32}, "model_channels=32, the file has 16"),
        ({}, {"attn_resolutions": [8]}, r"attn_resolutions=\[8\], the file has \[4\]"),
        ({}, {"resample_filter": [1, 3, 3, 1]}, r"resample_filter=\[1, 3, 3, 1\], the file has \[1, 1\]"),
        ({}, {"widths": 3}, "Arguments in `config` that EDM's networks do not have: widths"),
        ({}, {"class_name": "Precond"}, "Received: class_name='Precond'"),
        ({}, {"class_name": "iDDPMPrecond"}, "has 6 in its output. Received: 3"),
        ({"patch_size": 2}, {}, "Arguments in the file that EDM's networks do not have: patch_size"),
    ],
)
def test_what_is_refused(states, tmp_path, change, told, text):
    path = write(tmp_path / "net.pkl", states["EDMPrecond"], "EDMPrecond", **arguments(DDPMPP, **change))
    with pytest.raises(CheckpointError, match=text):
        checkpoints.load(path, config=told, verbose=0)


def test_other_networks_are_refused(states, tmp_path):
    skip = {**states["VEPrecond"], "enc.4x4_aux_skip.weight": torch.ones(3, 3, 1, 1)}
    edm2 = {"unet.emb_noise.weight": torch.ones(2, 2)}
    for name, state, text in (("skip", skip, "Received: names of 'skip'"), ("edm2", edm2, "a network of EDM2")):
        prefix = "" if name == "edm2" else "model."
        torch.save({f"{prefix}{key}": value for key, value in state.items()}, tmp_path / f"{name}.pt")
        with pytest.raises(CheckpointError, match=text):
            checkpoints.load(tmp_path / f"{name}.pt", verbose=0)
