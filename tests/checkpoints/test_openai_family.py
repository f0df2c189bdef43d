"""State dicts as guided-diffusion and improved-diffusion name them, against the arithmetic written out in PyTorch
below.
"""

import math

import numpy as np
import pytest
from keras import ops

import keras_diffusion
from keras_diffusion import checkpoints, schedulers
from keras_diffusion.checkpoints import CheckpointError
from keras_diffusion.checkpoints.families.openai.config import complete_config
from keras_diffusion.runtime.compile import Compiled, as_tensors

torch = pytest.importorskip("torch")
F = torch.nn.functional

# (what the file has, what its shapes do not tell)
ADM = (
    {"channels": 64, "mult": (0.5, 1), "updown": True, "scale_shift": True, "classes": 3, "out": 6},
    {"num_head_channels": 32},
)
OLD = (
    {"channels": 32, "mult": (1, 2), "attention": (True, False), "blocks": 2},
    {"num_heads": 4, "diffusion_steps": 4000, "noise_schedule": "cosine", "rescale_timesteps": True, "image_size": 8},
)
CASES = {"adm": ADM, "improved": OLD}


def make_state(
    channels, mult, attention=(False, True), blocks=1, updown=False, scale_shift=False, classes=0, inputs=3, out=3
):
    """Random weights under the names of guided-diffusion."""
    rng, state = np.random.default_rng(0), {}

    def add(name, *shape):
        scale = 0.1 if len(shape) == 1 else 1 / math.sqrt(math.prod(shape[1:]))
        state[f"{name}.weight"] = torch.tensor(rng.normal(size=shape) * scale, dtype=torch.float32)
        state[f"{name}.bias"] = torch.tensor(rng.normal(size=shape[:1]) * 0.1, dtype=torch.float32)

    def norm(name, width):
        add(name, width)
        state[f"{name}.weight"] += 1.0

    def residual(name, width, wide):
        norm(f"{name}.in_layers.0", width)
        add(f"{name}.in_layers.2", wide, width, 3, 3)
        add(f"{name}.emb_layers.1", wide * (1 + scale_shift), 4 * channels)
        norm(f"{name}.out_layers.0", wide)
        add(f"{name}.out_layers.3", wide, wide, 3, 3)
        if width != wide:
            add(f"{name}.skip_connection", wide, width, 1, 1)

    def attend(name, width):
        norm(f"{name}.norm", width)
        add(f"{name}.qkv", 3 * width, width, 1)
        add(f"{name}.proj_out", width, width, 1)

    def resample(name, kind, width):
        if updown:
            residual(name, width, width)
        else:
            add(f"{name}.{kind}", width, width, 3, 3)

    widths = [int(channels * m) for m in mult]
    add("time_embed.0", 4 * channels, channels)
    add("time_embed.2", 4 * channels, 4 * channels)
    if classes:
        state["label_emb.weight"] = torch.tensor(rng.normal(size=(classes, 4 * channels)), dtype=torch.float32)
    add("input_blocks.0.0", widths[0], inputs, 3, 3)
    skips, width, k = [widths[0]], widths[0], 1
    for i, wide in enumerate(widths):
        for _ in range(blocks):
            residual(f"input_blocks.{k}.0", width, wide)
            if attention[i]:
                attend(f"input_blocks.{k}.1", wide)
            skips, width, k = [*skips, wide], wide, k + 1
        if i < len(widths) - 1:
            resample(f"input_blocks.{k}.0", "op", width)
            skips, k = [*skips, width], k + 1
    residual("middle_block.0", width, width)
    attend("middle_block.1", width)
    residual("middle_block.2", width, width)
    k = 0
    for i, wide in reversed(list(enumerate(widths))):
        for j in range(blocks + 1):
            residual(f"output_blocks.{k}.0", width + skips.pop(), wide)
            if attention[i]:
                attend(f"output_blocks.{k}.1", wide)
            if i and j == blocks:
                resample(f"output_blocks.{k}.{1 + attention[i]}", "conv", wide)
            width, k = wide, k + 1
    norm("out.0", width)
    add("out.2", out, width, 3, 3)
    return state


def reference(state, x, steps, labels=None, heads=None, head_dim=None, new_order=False):
    """What the network computes, with the kind of each block read off its names. `x` and the result: (B, C, H, W)."""

    def apply(function, name, value, **options):
        return function(value, state[f"{name}.weight"], state[f"{name}.bias"], **options)

    def norm(name, h):
        return F.group_norm(h, 32, state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)

    def residual(name, h, change):
        inner = F.silu(norm(f"{name}.in_layers.0", h))
        h, inner = change(h), change(inner)
        inner = apply(F.conv2d, f"{name}.in_layers.2", inner, padding=1)
        time = apply(F.linear, f"{name}.emb_layers.1", F.silu(emb))[:, :, None, None]
        if time.shape[1] == inner.shape[1]:
            inner = norm(f"{name}.out_layers.0", inner + time)
        else:
            scale, shift = time.chunk(2, 1)
            inner = norm(f"{name}.out_layers.0", inner) * (1 + scale) + shift
        inner = apply(F.conv2d, f"{name}.out_layers.3", F.silu(inner), padding=1)
        return inner + (
            apply(F.conv2d, f"{name}.skip_connection", h) if f"{name}.skip_connection.weight" in state else h
        )

    def attend(name, h):
        batch, width, *size = h.shape
        tokens = h.reshape(batch, width, -1)
        count = heads or width // head_dim
        qkv = apply(F.conv1d, f"{name}.qkv", norm(f"{name}.norm", tokens))
        layout = (batch, 3, count, -1, tokens.shape[-1]) if new_order else (batch, count, 3, -1, tokens.shape[-1])
        q, k, v = qkv.reshape(layout).unbind(1 if new_order else 2)
        weights = torch.softmax(torch.einsum("bhdi,bhdj->bhij", q, k) / math.sqrt(width // count), -1)
        mixed = torch.einsum("bhij,bhdj->bhdi", weights, v).reshape(batch, width, -1)
        return (tokens + apply(F.conv1d, f"{name}.proj_out", mixed)).reshape(batch, width, *size)

    def double(h):
        return h.repeat_interleave(2, 2).repeat_interleave(2, 3)

    def run(place, h, change):
        """The layers of a block; `change` is what a second residual block, or the only one of its kind, does to the
        size.
        """
        for j in range(3):
            name = f"{place}.{j}"
            if f"{name}.op.weight" in state:
                h = apply(F.conv2d, f"{name}.op", h, stride=2, padding=1)
            elif f"{name}.conv.weight" in state:
                h = apply(F.conv2d, f"{name}.conv", double(h), padding=1)
            elif f"{name}.qkv.weight" in state:
                h = attend(name, h)
            elif f"{name}.in_layers.0.weight" in state:
                h = residual(name, h, change if place.startswith("input") or j else lambda h: h)
        return h

    half = state["time_embed.0.weight"].shape[1] // 2
    angle = steps[:, None] * 10000.0 ** (-torch.arange(half) / half)
    emb = apply(F.linear, "time_embed.0", torch.cat([angle.cos(), angle.sin()], 1))
    emb = apply(F.linear, "time_embed.2", F.silu(emb))
    if labels is not None:
        emb = emb + state["label_emb.weight"][labels]
    widths = [state[n].shape[0] for n in state if n.startswith("input_blocks") and n.endswith("out_layers.3.weight")]
    h = apply(F.conv2d, "input_blocks.0.0", x, padding=1)
    skips = [h]
    ups = sum(
        f"output_blocks.{k}.{j}.{n}.weight" in state for k in range(20) for j in (1, 2) for n in ("conv", "in_layers.2")
    )
    count = sum(f"output_blocks.{k}.0.in_layers.0.weight" in state for k in range(20))
    per_level = count // (ups + 1)
    for k in range(1, count):
        h = run(f"input_blocks.{k}", h, (lambda h: F.avg_pool2d(h, 2)) if k % per_level == 0 else lambda h: h)
        skips.append(h)
    h = run("middle_block", h, lambda h: h)
    for k in range(count):
        h = run(f"output_blocks.{k}", torch.cat([h, skips.pop()], 1), double)
    assert widths and not skips
    return apply(F.conv2d, "out.2", F.silu(norm("out.0", h)), padding=1)


def inputs_of(has, size=(8, 4)):
    rng = np.random.default_rng(1)
    inputs = {"x": rng.normal(size=(2, *size, 3)).astype("float32"), "noise_level": np.array([3.0, 901.0], "float32")}
    return {**inputs, "labels": np.array([2, 0])} if has.get("classes") else inputs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("openai")


@pytest.fixture(scope="module", params=list(CASES))
def case(request, folder):
    has, told = CASES[request.param]
    state = make_state(**has)
    path = folder / f"ema_0.9999_{request.param}.pt"
    torch.save(
        state, path, _use_new_zipfile_serialization=request.param != "improved"
    )  # files of 2021 are of the old kind
    return path, has, told, state


def expected_of(case, inputs, new_order=False):
    _, has, told, state = case
    steps = inputs["noise_level"] * (1000.0 / told["diffusion_steps"] if told.get("rescale_timesteps") else 1.0)
    labels = torch.tensor(inputs["labels"]) if has.get("classes") else None
    x = torch.tensor(np.moveaxis(inputs["x"], -1, 1).copy())
    out = reference(
        state, x, torch.tensor(steps), labels, told.get("num_heads"), told.get("num_head_channels"), new_order
    )
    return np.moveaxis(out.numpy(), 1, -1)


def test_same_numbers_as_the_arithmetic(case):
    path, has, told, _ = case
    loaded = checkpoints.load(path, config=told, verbose=0)
    inputs = inputs_of(has)
    expected = expected_of(case, inputs)
    output = ops.convert_to_numpy(Compiled(loaded.network)(as_tensors(inputs)))
    assert output.shape == (2, 8, 4, has.get("out", 3))
    assert np.abs(output - expected).max() < 1e-4 * np.abs(expected).max()
    report = loaded.report
    assert (report.family, report.weights, report.unused, report.missing) == ("openai_unet", "ema", [], [])


def test_conventions(folder, case):
    path, has, told, _ = case
    found = checkpoints.inspect(path, config=told)
    assert found.family == "openai_unet" and found.weights == ("ema",) and found.problem is None
    assert found.config["num_classes"] == (has.get("classes") or None) and found.config["learn_sigma"] == ("out" in has)
    assert found.config["channel_mult"] == list(has["mult"]) and found.config["resblock_updown"] == has.get(
        "updown", False
    )
    loaded = checkpoints.load(path, config=told, weights="raw", verbose=0)
    assert any("does not say whether it is an average" in note for note in loaded.report.notes)
    assert any("variance" in note for note in loaded.report.notes) == ("out" in has)
    steps = told.get("diffusion_steps", 1000)
    assert (
        loaded.noise_schedule.timesteps == loaded.predictor.timesteps == steps
        and loaded.predictor.condition == "timestep"
    )
    assert type(loaded.noise_schedule).__name__ == (
        "CosineBetaNoiseSchedule" if steps == 4000 else "LinearNoiseSchedule"
    )
    assert type(loaded.predictor).__name__ == "EpsilonPredictor"
    assert loaded.options == ({"condition_dropout": 0.0} if has.get("classes") else {})
    # 250 steps as the scripts' respacing takes them.
    times = schedulers.get_spacing(loaded.noise_schedule.spacing)(loaded.noise_schedule, 250)
    visited = np.round(times[:-1] * steps - 1).astype(int)
    np.testing.assert_array_equal(visited[::-1], np.round(np.arange(250) * (steps - 1) / 249).astype(int))


def test_both_orders_of_queries_keys_and_values(case, tmp_path):
    """The same weights, once heads first and once heads inside."""
    path, has, told, state = case
    other = dict(state)
    for name in [name for name in state if ".qkv." in name]:
        rows = state[name]
        heads = told.get("num_heads") or len(rows) // 3 // told["num_head_channels"]
        other[name] = rows.reshape(heads, 3, -1).transpose(0, 1).reshape(rows.shape).contiguous()
    inputs = inputs_of(has)
    np.testing.assert_allclose(
        expected_of((path, has, told, other), inputs, True), expected_of(case, inputs), atol=1e-5
    )
    torch.save(other, tmp_path / "model.pt")
    new = checkpoints.load(
        tmp_path / "model.pt", config={**told, "use_new_attention_order": True, "predict_xstart": True}, verbose=0
    )
    old = checkpoints.load(path, config=told, verbose=0)
    assert type(new.predictor).__name__ == "X0Predictor" and new.report.weights == "raw"
    for a, b in zip(new.network.get_weights(), old.network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_class_for_no_class(folder, case):
    path, has, told, _ = case
    if not has.get("classes"):
        with pytest.raises(CheckpointError, match="Received: null_class=True, num_classes=None"):
            checkpoints.load(path, config={**told, "null_class": True}, verbose=0)
        return
    loaded = checkpoints.load(path, config={**told, "null_class": True}, verbose=0)
    assert loaded.network.num_classes == loaded.network.null_labels == 2 and loaded.options == {}


def test_only_what_diffusers_has_is_written_for_it(case, tmp_path):
    path, has, told, _ = case
    loaded = checkpoints.load(path, config=told, verbose=0)
    key = "time_features=64" if has["channels"] == 64 else "num_heads=4"
    with pytest.raises(ValueError, match=f"UNet2DModel of diffusers has .* alone. Received: a network with {key}"):
        checkpoints.export(loaded, tmp_path / "diffusers")


@pytest.mark.slow
def test_converts(case, tmp_path):
    path, _, told, state = case
    torch.save({"step": 3, "model": state}, tmp_path / "model.pt")
    report = checkpoints.convert(tmp_path / "model.pt", tmp_path / "preset", config=told, verbose=0)
    assert report.weights == "raw" and report.notes[0].startswith("The file holds one set")
    network = keras_diffusion.DiffusionModel.from_preset(tmp_path / "preset").network
    loaded = checkpoints.load(path, config=told, verbose=0).network
    assert network.get_config() == loaded.get_config()
    for a, b in zip(network.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "has, told, text",
    [
        (ADM[0], {"num_channels": 32}, "follows from the shapes .* num_channels=32, the file has 64"),
        (ADM[0], {"channel_mult": "1,2"}, r"channel_mult=\[1, 2\], the file has \[0.5, 1\]"),
        (ADM[0], {"class_cond": False}, "class_cond=False, the file has True"),
        (
            ADM[0],
            {"attention_resolutions": "8", "image_size": 8},
            r"attention_resolutions='8', image_size=8, and the file has it at \[4\]",
        ),
        (ADM[0], {"attention_resolutions": "4"}, "pass `image_size` as well"),
        (ADM[0], {"noise_schedule": "sqrt"}, "one of 'linear', 'cosine'. Received: noise_schedule='sqrt'"),
        (ADM[0], {"large_size": 64}, "Unknown flag of a U-Net of OpenAI: large_size"),
        (ADM[0], {"num_heads": 5}, "`num_heads` must divide 64. Received: num_heads=5"),
        (ADM[0], {"num_heads": 4, "num_heads_upsample": 2}, "num_heads_upsample=2, num_heads=4"),
    ],
)
def test_what_is_refused(tmp_path, has, told, text):
    torch.save(make_state(**has), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=text):
        checkpoints.load(tmp_path / "model.pt", config=told, verbose=0)


def test_other_layouts_are_refused(tmp_path):
    state = make_state(**OLD[0])
    classifier = {name: value for name, value in state.items() if not name.startswith(("output_blocks", "out.2"))}
    gap = {name: value for name, value in state.items() if ".op." not in name and ".conv." not in name}
    for name, value, text in (
        ("classifier", classifier, "classifiers of guided-diffusion"),
        ("gap", gap, "conv_resample=False"),
    ):
        torch.save(value, tmp_path / f"{name}.pt")
        with pytest.raises(CheckpointError, match=text):
            checkpoints.load(tmp_path / f"{name}.pt", verbose=0)
        assert text in checkpoints.inspect(tmp_path / f"{name}.pt").problem


def test_published_models_are_known_by_their_sizes():
    """No file is that small: what is looked up is the table."""

    def completed(num_channels, channel_mult, blocks, updown, attention, **given):
        structure = {
            "in_channels": 3,
            "concat_channels": 0,
            "num_channels": num_channels,
            "channel_mult": channel_mult,
            "num_res_blocks": blocks,
        }
        structure |= {"attention": attention, "resblock_updown": updown, "learn_sigma": True, "num_classes": None}
        return complete_config(structure, given, None)

    small = completed(192, [1, 2, 3, 4], 3, True, [False, True, True, True], attention_resolutions="32,16,8")
    assert small["noise_schedule"] == "cosine" and small["use_new_attention_order"] and small["num_head_channels"] == 64
    assert small["image_size"] == 64 and "published; assumed: num_head_channels=64, use" in small["assumed"][0]
    middle = completed(256, [1, 1, 2, 3, 4], 2, True, [False, False, True, True, True])
    assert (middle["num_head_channels"], middle["num_heads"], middle["image_size"]) == (-1, 4, 128)
    old = completed(128, [1, 2, 2, 2], 3, False, [False, True, True, False], rescale_timesteps=False)
    assert (old["diffusion_steps"], old["rescale_timesteps"]) == (4000, False)
    other = completed(64, [1, 2], 1, True, [False, True])
    assert other["num_head_channels"] == 64 and "Shapes do not tell these" in other["assumed"][0]
    told = completed(64, [1, 2], 1, True, [False, True], num_heads=2)
    assert told["num_head_channels"] == -1 and "num_head" not in told["assumed"][0]
