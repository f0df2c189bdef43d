"""Files of adapters: this library's own, and those of diffusers, PEFT and kohya, held against W + scale·(α/r)·B·A in
NumPy.
"""

import json
import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_diffusion import DiffusionModel, networks
from keras_diffusion.checkpoints import CheckpointError, export, load_lora, open_container, save_lora
from keras_diffusion.checkpoints.families.diffusers import component_of_network
from keras_diffusion.containers.safetensors import write_safetensors
from keras_diffusion.lora.network import adapter_variables, dense_layers
from keras_diffusion.models import TextToImage
from keras_diffusion.text import CLIPTextEncoder, CLIPTokenizer

ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0"
QUERY, OUT, KEY = f"{ATTENTION}.attn1.to_q", f"{ATTENTION}.attn1.to_out.0", f"{ATTENTION}.attn2.to_k"
IN, FEED_FORWARD = "down_blocks.0.attentions.0.proj_in", f"{ATTENTION}.ff.net.0.proj"
CONV = "down_blocks.0.resnets.0.conv1"
TEXT = "text_model.encoder.layers.0.self_attn.v_proj"


def draw(network, seed=0):
    rng = np.random.RandomState(seed)
    network.set_weights([(w == 1) + 0.3 * rng.normal(size=w.shape) for w in network.get_weights()])
    return network


def make_unet():
    options = {
        "widths": (8,),
        "attention": (True,),
        "num_res_blocks": 1,
        "num_heads": 2,
        "context_dim": 6,
        "norm_groups": 4,
    }
    return draw(networks.UNet2DCondition((4, 4, 2), **options))


@pytest.fixture(scope="module")
def unet():
    return make_unet()


@pytest.fixture
def model():
    """Text to image, with an average."""
    keras.utils.set_random_seed(0)
    tokenizer = CLIPTokenizer(merges=[], max_length=4)
    encoder = draw(CLIPTextEncoder(tokenizer.vocabulary_size, 4, width=6, depth=1, num_heads=2))
    return TextToImage(make_unet(), encoder, tokenizer, ema=0.9)


def kernels(network):
    """{name in diffusers: kernel as (out, in, …)}, adapters added."""
    component, values = component_of_network(network), {}
    merged = {id(layer._kernel): ops.convert_to_numpy(layer.kernel) for _, layer in dense_layers(network)}
    for link in component.links(network, component.config(network)):
        value = merged.get(id(link.variable), ops.convert_to_numpy(link.variable))
        for name, part in zip(link.names, np.split(value, len(link.names), axis=-1)):
            values[name.removesuffix(".weight")] = link._to_torch(part)
    return values


def pair(network, module, rank, seed=0):
    """down and up for a module, drawn; convolutions as PyTorch has them."""
    out, *inner = kernels(network)[module].shape
    rng = np.random.RandomState(seed)
    up = rng.normal(size=(out, rank) + (1,) * (len(inner) - 1)).astype("float32")
    return rng.normal(size=(rank, *inner)).astype("float32"), up


def product(down, up):
    return np.einsum("or,r...->o...", up.reshape(up.shape[:2]), down)


def expect(network, before, changes):
    """That the kernels are `before` plus `changes` {module: change}, and no others."""
    for name, value in kernels(network).items():
        wanted = before[name] + changes.get(name, 0)
        np.testing.assert_allclose(value, wanted, atol=1e-5 * max(1, np.abs(wanted).max()), err_msg=name)


def peft(prefix, module, down, up):
    return {f"{prefix}{module}.lora_A.weight": down, f"{prefix}{module}.lora_B.weight": up}


def old(prefix, module, down, up):
    if module == KEY:
        return {f"{prefix}{module}.lora.down.weight": down, f"{prefix}{module}.lora.up.weight": up}
    if "attn" not in module or "text" in module:
        return {f"{prefix}{module}.lora_linear_layer.{kind}.weight": v for kind, v in (("down", down), ("up", up))}
    owner, name = module.removesuffix(".0").rsplit(".", 1)
    return {
        f"{prefix}{owner}.processor.{name}_lora.{kind}.weight": value for kind, value in (("down", down), ("up", up))
    }


def kohya(prefix, module, down, up):
    name = {"unet.": "lora_unet_", "text_encoder.": "lora_te_"}[prefix] + module.replace(".", "_")
    return {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": np.array(0.5, "float32")}


FORMS = {"peft": (peft, None), "old": (old, None), "kohya": (kohya, 0.5)}


@pytest.mark.parametrize(("form", "merge"), [("peft", False), ("old", True), ("kohya", False), ("kohya", True)])
def test_files_of_others(form, merge, model, tmp_path):
    write, alpha = FORMS[form]
    tensors, changes, changed_text = {}, {}, {}
    for i, module in enumerate([QUERY, OUT, KEY, FEED_FORWARD, IN]):
        down, up = pair(model.network, module, 2 + i % 2, i)
        tensors |= write("unet.", module, down, up)
        changes[module] = 0.7 * (1 if alpha is None else alpha / (2 + i % 2)) * product(down, up)
    down, up = pair(model.text_encoder, TEXT, 4, 9)
    tensors |= write("text_encoder.", TEXT, down, up)
    changed_text[TEXT] = 0.7 * (1 if alpha is None else alpha / 4) * product(down, up)
    write_safetensors(
        tmp_path / "style.safetensors", {name: value.astype("float16") for name, value in tensors.items()}
    )
    nets = (model.network, model.average.network, model.text_encoder)
    before = [kernels(network) for network in nets]
    matched = load_lora(model, tmp_path / "style.safetensors", scale=0.7, merge=merge)
    assert len(matched) == 6
    for network, values, wanted in zip(nets, before, (changes, changes, changed_text), strict=True):
        # The file is in half precision.
        for name, value in kernels(network).items():
            np.testing.assert_allclose(value, values[name] + wanted.get(name, 0), atol=1e-2, err_msg=name)
            assert (name in wanted) == (not np.array_equal(value, values[name])), name
        assert len(network.adapters) == (0 if merge else len(wanted))
    assert not merge or model.network.trainable
    assert len(model.trainable_variables) == (len(model.network.weights) if merge else 10)


def test_exactly(unet, tmp_path):
    """To float32's last digits, for every way to say alpha."""
    path = tmp_path / "a.safetensors"
    before, (down, up) = kernels(unet), pair(unet, KEY, 3)
    told = {"lora_adapter_metadata": json.dumps({"unet.r": 3, "unet.lora_alpha": 6, "unet.alpha_pattern": {}})}
    pattern = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 6, "unet.alpha_pattern": {"attn2.to_k": 12}})}
    rank_stabilized = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 6, "unet.use_rslora": True})}
    plain, alpha = peft("unet.", KEY, down, up), {f"unet.{KEY}.alpha": np.array([9.0], "float32")}
    bare, wrapped = peft("", KEY, down, up), peft("base_model.model.", KEY, down, up)
    wrapped = {name.replace(".weight", ".default.weight"): value for name, value in wrapped.items()}
    cases = [
        (plain, {}, 1),
        (plain, told, 2),
        (plain, pattern, 4),
        (plain, rank_stabilized, 6 / 3**0.5),
        (plain | alpha, told, 3),
        (bare, {}, 1),
        (wrapped, {}, 5),
    ]
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 15, "r": 3, "alpha_pattern": None}))
    for tensors, metadata, strength in cases:
        write_safetensors(path, tensors, metadata)
        load_lora(unet, path, scale=0.25)
        expect(unet, before, {KEY: 0.25 * strength * product(down, up)})
        unet.remove_lora()
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(CheckpointError, match="PEFT keeps alpha in adapter_config.json"):
        load_lora(unet, path)
    expect(unet, before, {})


def test_queries_keys_and_values_in_one_kernel(tmp_path):
    network = draw(
        networks.UNet2D((4, 4, 1), widths=(8,), down_types=("AttnDownBlock2D",), num_res_blocks=1, norm_groups=4)
    )
    before, prefix, tensors, changes = kernels(network), "mid_block.attentions.0", {}, {}
    for i, name in enumerate(["to_q", "to_v", "to_out.0"]):
        down, up = pair(network, f"{prefix}.{name}", 1 + i, i)
        tensors |= peft("unet.", f"{prefix}.{name}", down, up) | {
            f"unet.{prefix}.{name}.alpha": np.array(2.0, "float32")
        }
        changes[f"{prefix}.{name}"] = 2 / (1 + i) * product(down, up)
    write_safetensors(tmp_path / "a.safetensors", tensors)
    load_lora(network, tmp_path / "a.safetensors")
    assert network.adapters == {"middle_attention/qkv": (3, 3), "middle_attention/out": (3, 2)}
    expect(network, before, changes)
    save_lora(network, tmp_path / "b.safetensors")
    network.remove_lora()
    load_lora(network, tmp_path / "b.safetensors")
    expect(network, before, changes)
    assert network.adapters["middle_attention/qkv"] == (3, 3)  # one A for all three, as it was


def test_convolutions_are_merged_or_refused(unet, tmp_path):
    before, (down, up) = kernels(unet), pair(unet, CONV, 2)
    write_safetensors(tmp_path / "a.safetensors", kohya("unet.", CONV, down, up))
    with pytest.raises(
        CheckpointError, match="this one is for a convolution: lora_unet_down_blocks_0_resnets_0_conv1. Pass merge=True"
    ):
        load_lora(unet, tmp_path / "a.safetensors")
    expect(unet, before, {})
    assert load_lora(unet, tmp_path / "a.safetensors", merge=True) == {
        "lora_unet_down_blocks_0_resnets_0_conv1": "down_0_0_residual/conv1/kernel"
    }
    expect(unet, before, {CONV: 0.25 * product(down, up)})
    load_lora(unet, tmp_path / "a.safetensors", scale=-1, merge=True)
    expect(unet, before, {})


def learn(network):
    rng = np.random.RandomState(3)
    for variable in adapter_variables(network):
        variable.assign(0.3 * rng.normal(size=variable.shape))


def test_own_files(model, tmp_path):
    model.enable_lora(3, alpha=7)
    model.text_encoder.enable_lora(2, target="dense")
    for network in (model.network, model.text_encoder):
        learn(network)
    with pytest.raises(
        ValueError, match=r"Whole models are written without adapters.*Call merge_lora\(\) first, or .* save_lora"
    ):
        export(model, tmp_path / "folder")
    path = save_lora(model, tmp_path / "new" / "style.safetensors", weights="raw")
    assert [p.name for p in path.parent.iterdir()] == ["style.safetensors"]
    with open_container(path) as container:
        names, rank = set(container.tensors), container.tensors[f"unet.{QUERY}.lora_A.weight"].shape
    assert len(names) == 2 * (32 + 6) and rank == (3, 8)
    assert {f"unet.{OUT}.lora_B.weight", f"text_encoder.{TEXT}.lora_A.weight"} <= names
    adapted = [kernels(network) for network in (model.network, model.text_encoder)]
    averaged = kernels(model.average.network)
    assert any(not np.allclose(averaged[name], adapted[0][name]) for name in averaged)
    first = [ops.convert_to_numpy(v) for v in adapter_variables(model.network)]
    model.text_encoder.remove_lora()
    learn(model.average.network)
    for variable in adapter_variables(model.network):
        variable.assign(np.ones(variable.shape))
    load_lora(model, path)  # into the network's adapters, and the text encoder's, which are new
    for network, wanted in zip(
        (model.network, model.average.network, model.text_encoder), (adapted[0], *adapted), strict=True
    ):
        expect(network, wanted, {})
    assert set(model.network.adapters.values()) == {(3, 7)}
    for variable, value in zip(adapter_variables(model.network), first, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(variable), value, rtol=1e-6)
    assert len(model.trainable_variables) == 64
    unet = make_unet()
    assert len(load_lora(unet, path)) == 32  # a network alone takes its own
    expect(unet, adapted[0], {})
    with pytest.raises(
        CheckpointError, match="parts that this model does not have: text_encoder. Received a model of: unet"
    ):
        load_lora(DiffusionModel(make_unet(), ema=None), path)


def test_networks_that_diffusers_has_not(tmp_path):
    network = draw(networks.MLP((2,), width=4, depth=1))
    network.enable_lora(2, target=["block_0_dense1", "dense_out"])
    learn(network)
    path = save_lora(network, tmp_path / "a.safetensors")
    with open_container(path) as container:
        assert container.tensors["network.block_0_dense1.lora_A.weight"].shape == (2, 4)
    wanted = {name: ops.convert_to_numpy(layer.kernel) for name, layer in dense_layers(network)}
    network.remove_lora()
    model = DiffusionModel(network, seed=0)
    load_lora(model, path, merge=True)
    for one in (network, model.average.network):
        for name, layer in dense_layers(one):
            np.testing.assert_allclose(ops.convert_to_numpy(layer.kernel), wanted[name], atol=1e-6, err_msg=name)
    with pytest.raises(ValueError, match="The model has no adapters to write. Received: a DiffusionModel"):
        save_lora(model, tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match=r"Adapters are written as \.safetensors. Received: path="):
        save_lora(model, tmp_path / "b.bin")
    assert not (tmp_path / "b.safetensors").exists()


def test_what_does_not_fit_changes_nothing(unet, tmp_path):
    path, before = tmp_path / "a.safetensors", kernels(unet)
    down, up = pair(unet, QUERY, 2)
    good, name = peft("unet.", KEY, *pair(unet, KEY, 2)), f"unet.{QUERY}"
    cases = [
        ({f"{name}.lora_A.weight": down}, "An adapter is a pair of matrices. Received one alone for: unet.down_blocks"),
        (
            {f"{name}.dora_scale": up} | peft("", name, down, up),
            "Received 1 other tensors: unet.*dora_scale. Other kinds of adapters",
        ),
        (peft("", name, down, up[:, :1]), r"a pair \(r, in\) and \(out, r\). Received: \(2, 8\) and \(8, 1\) for unet"),
        (
            peft("", name, down[:, :6], up),
            r"are \(r, 8\) and \(8, r\) for .*to_q/kernel. Received: \(2, 6\) and \(8, 2\)",
        ),
        (peft("", name, down[:, :2].reshape(2, 2, 1, 1).repeat(2, 2).repeat(2, 3), up), r"made for another network"),
        (
            peft("unet.", "down_blocks.7.to_q", down, up),
            "adapters for 1 modules \\(of 2\\) that this model does not have: unet.down_blocks.7",
        ),
        (
            kohya("unet.", "input_blocks.1", down, up),
            "does not have: lora_unet_input_blocks_1. It was made for another network",
        ),
        (peft("", name, down, up) | kohya("unet.", QUERY, down, up), "A layer takes one adapter. Received two for"),
        (
            peft("", name, down, up) | {f"{name}.alpha": np.array(0.0, "float32")},
            "alpha of an adapter is a number > 0. Received: 0.0",
        ),
        (peft("", name, np.full_like(down, np.nan), up), "must be finite"),
        (peft("vae.", QUERY, down, up), None),
    ]
    for tensors, message in cases:
        write_safetensors(path, {**good, **tensors})
        if message is None:
            assert list(load_lora(unet, path)) == [f"unet.{KEY}"]  # of another part
            unet.remove_lora()
            continue
        with pytest.raises(CheckpointError, match=message) as error:
            load_lora(unet, path)
        assert re.search(r"File: '.*a\.safetensors'", str(error.value))
        assert not unet.adapters
        expect(unet, before, {})
    write_safetensors(path, good)
    with pytest.raises(ValueError, match="`scale` is .* finite number. Received: scale=nan"):
        load_lora(unet, path, scale=float("nan"))
    unet.enable_lora(2)
    with pytest.raises(
        ValueError, match=r"a model with 32 adapters, and a file with 1, of other layers or ranks. Call merge_lora"
    ):
        load_lora(unet, path)
    unet.remove_lora()
    with pytest.raises(
        CheckpointError, match="parts that this model does not have: unet. Received a model of: network"
    ):
        load_lora(networks.MLP((2,), width=4, depth=1), path)
    with pytest.raises(
        ValueError, match="Adapters are for networks of this library, and models with one. Received: a Dense"
    ):
        load_lora(keras.layers.Dense(2), path)
