"""Networks beside FlaxDiff's and diffusers' own: parameters, largest difference of outputs, time of a forward pass.

Each peer's network is made with random weights and saved by its own code; `checkpoints.load` reads the file. Both get
the same input in turns. FlaxDiff runs under `jax.jit` on the same JAX; diffusers as its users run it, torch without
gradients.

    make bench-networks                              the table, into docs/networks.md
    KERAS_BACKEND=jax python benchmarks/networks.py [--only SimpleDiT] [--rounds 15] [--out docs/networks.md]

A ratio below 1 says that the network here is faster. A peer that is not installed is a row that says so.
"""

import argparse
import importlib
import inspect
import json
import platform
import tempfile
from pathlib import Path

import keras
import numpy as np
from turns import in_turns

from keras_diffusion import checkpoints
from keras_diffusion.runtime.compile import Compiled, as_tensors

# (class, module of flaxdiff.models, constructor, side of the images)
_DIT = {"patch_size": 2, "emb_features": 192, "num_layers": 12, "num_heads": 3}
_TEXT = 64
FLAXDIFF = [
    (
        "Unet",
        "simple_unet",
        {"emb_features": 256, "feature_depths": (32, 64, 96), "attention_configs": ({"heads": 4},) * 3},
        32,
    ),
    ("SimpleDiT", "simple_dit", _DIT, 32),
    ("SimpleUDiT", "simple_vit", _DIT, 32),
    # Blocks that add their input twice, the default, double everything twelve times: no two programs agree on such
    # numbers.
    ("UViT", "simple_vit", {**_DIT, "explicitly_add_residual": False}, 32),
    ("SimpleMMDiT", "simple_mmdit", _DIT, 32),
    (
        "HierarchicalMMDiT",
        "simple_mmdit",
        {"base_patch_size": 2, "emb_features": (96, 192), "num_layers": (2, 6), "num_heads": (3, 3)},
        32,
    ),
    ("HybridSSMAttentionDiT", "ssm_dit", {**_DIT, "num_layers": 8}, 32),
]
# (class, constructor, arguments of the call as shapes)
_BLOCK = {"block_out_channels": (64, 128, 128), "layers_per_block": 2, "norm_num_groups": 32}
DIFFUSERS = [
    (
        "UNet2DModel",
        {
            **_BLOCK,
            "sample_size": 32,
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        },
        (3, 32, 32),
    ),
    (
        "UNet2DConditionModel",
        {
            **_BLOCK,
            "sample_size": 32,
            "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            "cross_attention_dim": 256,
            "attention_head_dim": 8,
        },
        (4, 32, 32),
    ),
    (
        "AutoencoderKL",
        {
            "block_out_channels": (32, 64, 64),
            "layers_per_block": 2,
            "norm_num_groups": 32,
            "sample_size": 64,
            "down_block_types": ("DownEncoderBlock2D",) * 3,
            "up_block_types": ("UpDecoderBlock2D",) * 3,
        },
        (3, 64, 64),
    ),
    (
        "DiTTransformer2DModel",
        {
            "num_attention_heads": 3,
            "attention_head_dim": 64,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 12,
            "sample_size": 32,
            "patch_size": 2,
            "num_embeds_ada_norm": 10,
        },
        (4, 32, 32),
    ),
]


def flaxdiff_case(case, batch, folder):
    """(our network, its inputs, peer's call without arguments, peer's parameters)."""
    import jax
    from flax import serialization

    name, module, constructor, size = case
    model = getattr(importlib.import_module(f"flaxdiff.models.{module}"), name)(**constructor)
    rng = np.random.default_rng(0)
    inputs = {
        "x": rng.standard_normal((batch, size, size, 3)).astype("float32"),
        "noise_level": rng.standard_normal(batch).astype("float32"),
        "context": rng.standard_normal((batch, 16, _TEXT)).astype("float32"),
    }
    arguments = list(inputs.values())
    params = jax.jit(model.init)(jax.random.PRNGKey(0), *arguments)
    # Layers that start at zero would hide what is behind them.
    params = jax.tree.map(lambda leaf: leaf + 0.02 * rng.standard_normal(leaf.shape).astype(leaf.dtype), params)
    path = Path(folder) / "weights.msgpack"
    path.write_bytes(serialization.msgpack_serialize({"params": jax.tree.map(np.asarray, params)}))
    if name == "SimpleDiT" and "sincos" not in inspect.getsource(type(model)):
        constructor = {**constructor, "sincos_position": False, "rotary": True}  # as the release has it
    config = {**constructor, "image_shape_hwc": [size, size, 3], "fourier_frequencies": "partitionable"}
    apply = jax.jit(model.apply)
    call = lambda: np.asarray(apply(params, *arguments))  # noqa: E731
    return (
        checkpoints.load(path, config=config, verbose=0).network,
        inputs,
        call,
        sum(leaf.size for leaf in jax.tree.leaves(params)),
    )


def diffusers_case(case, batch, folder):
    """As `flaxdiff_case`."""
    import diffusers
    import torch

    name, constructor, shape = case
    torch.manual_seed(0)
    model = getattr(diffusers, name)(**constructor).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    x = torch.randn(batch, *shape)
    timesteps, labels = torch.linspace(10, 900, batch).round(), torch.arange(batch)
    inputs = {"x": x.permute(0, 2, 3, 1).numpy(), "noise_level": timesteps.numpy()}
    arguments = {"sample": x, "timestep": timesteps}
    if name == "AutoencoderKL":
        inputs, arguments = inputs["x"], {"sample": x}
    elif name == "UNet2DConditionModel":
        context = torch.randn(batch, 16, constructor["cross_attention_dim"])
        inputs, arguments = {**inputs, "context": context.numpy()}, {**arguments, "encoder_hidden_states": context}
    elif name == "DiTTransformer2DModel":
        inputs = {**inputs, "labels": labels.numpy()}
        arguments = {"hidden_states": x, "timestep": timesteps.long(), "class_labels": labels}

    def call():
        with torch.no_grad():
            return model(**arguments).sample.permute(0, 2, 3, 1).numpy()

    return (
        checkpoints.load(folder, verbose=0).network,
        inputs,
        call,
        sum(parameter.numel() for parameter in model.parameters()),
    )


def measure(make, case, batch, rounds):
    """The row of one network, a dict."""
    with tempfile.TemporaryDirectory() as folder:
        network, inputs, peer, parameters = make(case, batch, folder)
    inputs = as_tensors(inputs)
    values = [variable.value for variable in network.variables]

    def pure(values, inputs):
        with keras.StatelessScope(state_mapping=list(zip(network.variables, values))):
            return network(inputs, training=False)

    compiled = Compiled(pure)
    ours = lambda: keras.ops.convert_to_numpy(compiled(values, inputs))  # noqa: E731
    a, b = ours(), peer()
    times = in_turns({"here": ours, "there": peer}, rounds)
    ratios = times["here"] / times["there"]
    return {
        "parameters": network.count_params(),
        "parameters there": int(parameters),
        "difference": float(np.abs(a - b).max() / np.abs(b).max()),
        "ms": 1e3 * float(np.median(times["here"])),
        "ms there": 1e3 * float(np.median(times["there"])),
        "ratio": float(np.median(times["here"]) / np.median(times["there"])),
        "quartiles": [float(q) for q in np.quantile(ratios, [0.25, 0.75])],
    }


def table(rows, options):
    """The page."""
    head = (
        "| network | parameters | there | difference | here, ms | there, ms | ratio | quartiles "
        "|\n|---|--:|--:|--:|--:|--:|--:|--:|"
    )
    lines = []
    for name, row in rows.items():
        if "missing" in row:
            lines.append(f"| {name} | | | | | | {row['missing']} is not installed | |")
            continue
        numbers = [
            f"{row['parameters']:,}",
            f"{row['parameters there']:,}",
            f"{row['difference']:.1e}",
            f"{row['ms']:.1f}",
        ]
        numbers += [f"{row['ms there']:.1f}", f"{row['ratio']:.2f}", "{:.2f}–{:.2f}".format(*row["quartiles"])]
        lines.append(f"| {name} | {' | '.join(numbers)} |")
    about = (
        f"Backend {keras.backend.backend()}, float32, batch {options.batch}, {options.rounds} "
        f"rounds in turns, {platform.machine()}."
    )
    return "\n".join(
        [
            "# Networks beside their originals",
            "",
            "`make bench-networks` writes this page. Each original was made with random weights, saved by its own code "
            "and read by `checkpoints.load`; both then computed the same input.",
            "",
            f"{about} Difference: largest, relative to the largest output. Ratio: "
            "median time here ÷ there, below 1 is faster.",
            "`HybridSSMAttentionDiT` has more here: its projection takes both directions of a "
            "state space, FlaxDiff 0.2.11's their sum.",
            "",
            head,
            *lines,
            "",
        ]
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="one class of a peer")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, help="Markdown file; default: print JSON alone")
    options = parser.parse_args()
    rows = {}
    for library, make, cases in (("FlaxDiff", flaxdiff_case, FLAXDIFF), ("diffusers", diffusers_case, DIFFUSERS)):
        for case in cases:
            if options.only in (None, case[0]):
                try:
                    row = measure(make, case, options.batch, options.rounds)
                except ModuleNotFoundError as error:
                    row = {"missing": error.name}
                rows[f"{library} `{case[0]}`"] = row
                print(json.dumps({f"{library} {case[0]}": row}), flush=True)
    if options.out is not None:
        options.out.write_text(table(rows, options), encoding="utf-8")


if __name__ == "__main__":
    main()
