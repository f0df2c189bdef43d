"""KerasCV's Stable Diffusion 1.4 and 2.1-base: four files, one per network.

    diffusion model    2 dense, convolutions, residual blocks, transformers, 1 norm      → UNet2DCondition
    text encoder       1 embedding, CLIP layers, 1 norm                                  → CLIPTextEncoder
    image encoder      convolutions, the last 1×1, residual blocks, 1 attention, 1 norm  → AutoencoderKL: encoder
    decoder            convolutions, the first 1×1, …                                    → AutoencoderKL: decoder

A file has layers in the order of the model, each with its weights in the order in which KerasCV's class makes them;
names carry counters of the process that wrote the file and mean nothing. A layer is therefore recognized by the ranks
of its weights, and the n-th layer of a kind in the file belongs to the n-th layer of that kind in our network. Any
widths and numbers of blocks load.

What KerasCV does otherwise than the networks that it was ported from: all group norms have ε = 1e-5, gates and the
second text encoder have the tanh form of GELU. The number of attention heads is not in a file: 8 where transformers
project by convolutions (1.x), as many as make 64 channels each where they project by dense layers (2.x).

Source: the package keras-cv 0.9.0, models/stable_diffusion.
"""

from keras_diffusion.checkpoints.families.agreement import check_known, must_agree
from keras_diffusion.checkpoints.families.family import Family, Parts, register
from keras_diffusion.checkpoints.families.keras_cv.variables import (
    autoencoder_slots,
    pairs,
    text_encoder_slots,
    unet_slots,
)
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.layers.initializers import zero_kernels
from keras_diffusion.networks import AutoencoderKL, UNet2DCondition
from keras_diffusion.predictors import EpsilonPredictor
from keras_diffusion.schedulers import ScaledLinearNoiseSchedule
from keras_diffusion.text import CLIPTextEncoder

_SAYS = "The shapes say {name}={found}. Received: {name}={value}."
# Ranks of a layer's weights, in KerasCV's order.
_NORM, _DENSE, _CONV = (1, 1), (2, 1), (4, 1)
_ATTENTION = (2, 2, 2, 2, 1)
_BLOCK = _NORM + _CONV + _DENSE + _NORM + _CONV
_RESNET = _NORM + _CONV + _NORM + _CONV
_TRANSFORMER = _NORM + _ATTENTION + _NORM + _ATTENTION + _NORM + _DENSE + _DENSE
_KINDS = {
    _NORM: "norm",
    _DENSE: "dense",
    _CONV: "convolution",
    (2, 2): "embedding",
    _BLOCK: "block",
    _BLOCK + _CONV: "block",
    _RESNET: "resnet",
    _RESNET + _CONV: "resnet",
    _NORM + _CONV + _TRANSFORMER + _CONV: "transformer",
    _NORM + _DENSE + _TRANSFORMER + _DENSE: "transformer",
    _NORM + _CONV * 4: "attention",
    _NORM + _DENSE * 4 + _NORM + _DENSE * 2: "clip",
}
# `.weights.h5` files of Keras 3 name weights by attribute and sort them; this is the order in which the attributes are
# made.
_ATTRIBUTES = tuple(
    """
    entry_flow/group_normalization entry_flow/padded_conv2d embedding_flow exit_flow/group_normalization
    exit_flow/padded norm/ proj1 transformer_block/norm1 transformer_block/attn1/to_q transformer_block/attn1/to_k
    transformer_block/attn1/to_v transformer_block/attn1/out_proj transformer_block/norm2 transformer_block/attn2/to_q
    transformer_block/attn2/to_k transformer_block/attn2/to_v transformer_block/attn2/out_proj transformer_block/norm3
    transformer_block/geglu transformer_block/dense proj2 norm1 conv1 norm2 conv2 residual_projection q/ k/ v/
    proj_out layer_norm1 clip_attn/q_proj clip_attn/k_proj clip_attn/v_proj clip_attn/out_proj layer_norm2 fc1 fc2
    token_embedding position_embedding
    """.split()
)
# Layers of the older port by D. Gupta, which wraps each network into a single layer.
_OLDER_PORT = ("u_net_model", "clip_text_transformer")
_COMPONENTS = {
    "diffusion_model": {"dense", "convolution", "block", "transformer", "norm"},
    "text_encoder": {"embedding", "clip", "norm"},
    "autoencoder": {"convolution", "resnet", "attention", "norm"},
}
# Kinds of layers of which there is a fixed number.
_COUNTS = {
    "diffusion_model": {"dense": 2, "norm": 1},
    "text_encoder": {"embedding": 1, "norm": 1},
    "autoencoder": {"attention": 1, "norm": 1},
}


@register
class KerasCVStableDiffusion(Family):
    """The four networks of `keras_cv.models.StableDiffusion` and `StableDiffusionV2`."""

    name = "keras_cv"
    title = "Stable Diffusion of KerasCV"
    loses = "nothing; the tokenizer's vocabulary is a file of its own"

    def recognizes(self, container):
        return _component(container, container.roots[0]) is not None

    def read_config(self, container, root, config):
        component, layers = _component(container, root), _layers(container, root)
        if component == "older_port":
            raise CheckpointError(
                "This is the older port of Stable Diffusion to Keras "
                "(divamgupta/stable-diffusion-tensorflow), whose files are laid out otherwise. Take "
                "KerasCV's: kcv_diffusion_model.h5, kcv_encoder.h5, kcv_decoder.h5, vae_encoder.h5",
                container.path,
            )
        shapes = {
            kind: [[container.tensors[name].shape for name in layer] for layer in group]
            for kind, group in layers.items()
        }
        read = {"diffusion_model": _read_unet, "text_encoder": _read_text_encoder}.get(component, _read_autoencoder)
        certain, assumed = read(shapes, container.path)
        certain = {"component": component, **certain}
        words = f"The config of a {component} has the keys {{known}}. Received: {{unknown}}."
        check_known(config, (*certain, *assumed), words, container.path)
        for key in config.keys() & certain.keys():
            must_agree(key, config[key], certain[key], container.path, _SAYS)
        return {**certain, **assumed, **{key: config[key] for key in config if key in assumed}}

    def build(self, container, config):
        arguments = {key: value for key, value in config.items() if key != "component"}
        with zero_kernels():  # every weight is read from the file
            if config["component"] == "text_encoder":
                return Parts(CLIPTextEncoder(**arguments))
            if config["component"] != "diffusion_model":
                return Parts(AutoencoderKL(**arguments))
            network = UNet2DCondition(**arguments)
        schedule = ScaledLinearNoiseSchedule(spacing={"name": "leading", "offset": 1})
        heads = f"num_heads={config['num_heads']}" if config["head_dim"] is None else f"head_dim={config['head_dim']}"
        notes = (
            f"The number of attention heads is not in the file; assumed: {heads}.",
            "The model keeps no average of its weights, which would double the "
            "memory; diffusion_model(ema=0.999) does.",
        )
        # KerasCV's own pipeline.
        sampling = {"sampler": "ddim", "spacing": "linspace"}
        predictor = EpsilonPredictor(condition="timestep")
        return Parts(network, schedule, predictor, options={"ema": None}, notes=notes, sampling=sampling)

    def sources(self, container, root, network, config):
        layers = _layers(container, root)
        slots = {"diffusion_model": unet_slots, "text_encoder": text_encoder_slots}.get(
            config["component"], autoencoder_slots
        )
        for kind, ours in slots(network).items():
            saved = layers[kind]
            if len(saved) != len(ours):
                raise CheckpointError(
                    f"The network has {len(ours)} layers of the kind {kind!r}, the file "
                    f"{len(saved)}: they are not of one make.",
                    container.path,
                )
            for variables, names in zip(ours, saved):
                yield from pairs(kind, variables, names, container)


def _layers(container, root):
    """Names of the weights of each layer, in KerasCV's order, by kind."""
    found: dict[str, list] = {}
    for layer in container.layers(root):
        names = [name for _, name in sorted(layer.weights.items(), key=lambda item: _position(item[0]))]
        kind = _KINDS.get(tuple(len(container.tensors[name].shape) for name in names), "other")
        if kind == "convolution" and layer.name.startswith("upsample"):
            kind = "upsampling"  # layers of another class, which lie elsewhere where a file sorts its layers by name
        found.setdefault(kind, []).append(names)
    upsampling, convolutions = found.pop("upsampling", []), found.get("convolution", [])
    return {**found, "convolution": convolutions[:-1] + upsampling + convolutions[-1:]} if convolutions else found


def _position(leaf):
    return next((i for i, attribute in enumerate(_ATTRIBUTES) if leaf.startswith(attribute)), len(_ATTRIBUTES))


def _component(container, root):
    """Which of the networks is in a container, or None."""
    saved = container.layers(root)
    if len(saved) == 1 and saved[0].name.startswith(_OLDER_PORT):
        return "older_port"
    layers = _layers(container, root)
    component = next((name for name, kinds in _COMPONENTS.items() if set(layers) == kinds), None)
    counts = {kind: len(group) for kind, group in layers.items()}
    if component is None or any(counts[kind] != count for kind, count in _COUNTS[component].items()):
        return None
    if component != "autoencoder":
        return None if component == "diffusion_model" and counts["convolution"] % 2 else component
    ends = [container.tensors[layers["convolution"][i][0]].shape[0] for i in (0, -1)]
    return {(3, 1): "image_encoder", (1, 3): "decoder"}.get(tuple(ends))


def _read_unet(shapes, path):
    convolutions, blocks, transformers = shapes["convolution"], shapes["block"], shapes["transformer"]
    levels = len(convolutions) // 2
    per_level = _whole(len(blocks) - levels - 2, 2 * levels, "residual blocks", path)
    with_attention = _whole(len(transformers) - 1, 2 * per_level + 1, "transformers", path)
    projections_are_dense = len(transformers[0][2]) == 2
    certain = {
        "input_shape": [None, None, convolutions[0][0][2]],
        "widths": [blocks[i * per_level][2][-1] for i in range(levels)],
        "num_res_blocks": per_level,
        "context_dim": transformers[0][14][0],
        "out_channels": convolutions[-1][0][-1],
    }
    assumed = {
        "attention": [i < with_attention for i in range(levels)],
        "num_heads": 8,
        "head_dim": 64 if projections_are_dense else None,
        "norm_groups": 32,
        "norm_epsilon": 1e-5,
        "transformer_norm_epsilon": 1e-5,
        "feed_forward_activation": "gelu_tanh",
    }
    return certain, assumed


def _read_text_encoder(shapes, path):
    (vocabulary_size, width), (max_length, _) = shapes["embedding"][0]
    certain = {
        "vocabulary_size": vocabulary_size,
        "max_length": max_length,
        "width": width,
        "depth": len(shapes["clip"]),
    }
    return certain, {"num_heads": max(width // 64, 1), "activation": "gelu_tanh" if width >= 1024 else "quick_gelu"}


def _read_autoencoder(shapes, path):
    convolutions, blocks = shapes["convolution"], shapes["resnet"]
    levels = len(convolutions) - 2
    encodes = convolutions[0][0][0] == 3
    per_level = _whole(len(blocks) - 2 - (0 if encodes else levels), levels, "residual blocks", path)
    widths = [blocks[i * per_level][2][-1] for i in range(levels)]
    if not encodes:
        widths = [blocks[2 + i * (per_level + 1)][2][-1] for i in reversed(range(levels))]
    certain = {
        "widths": widths,
        "num_res_blocks": per_level,
        "channels": convolutions[0][0][2] if encodes else convolutions[-1][0][-1],
        "latent_channels": convolutions[-1][0][-1] // 2 if encodes else convolutions[0][0][-1],
        "halves": ["encoder" if encodes else "decoder"],
    }
    return certain, {"scale": 0.18215, "norm_groups": 32, "norm_epsilon": 1e-5}


def _whole(count, unit, what, path):
    if count < 1 or count % unit:
        raise CheckpointError(
            f"Levels of one network have as many {what} each. Received: {count} of them for {unit} places.", path
        )
    return count // unit
