"""The config of OpenAI's U-Nets: what follows from names and shapes, and the flags of OpenAI's scripts for the rest."""

from keras_diffusion.checkpoints.families.agreement import check_known, must_agree
from keras_diffusion.containers.errors import CheckpointError

# What shapes do not tell, as `guided-diffusion` has it where no flag is given.
_FREE = {
    "image_size": None,
    "num_heads": 4,
    "num_head_channels": -1,
    "use_new_attention_order": False,
    "dropout": 0.0,
    "diffusion_steps": 1000,
    "noise_schedule": "linear",
    "predict_xstart": False,
    "rescale_timesteps": False,
    "null_class": False,
}
# Flags that change neither the network nor what it was trained on.
_NEEDLESS = {
    "use_checkpoint",
    "use_fp16",
    "use_kl",
    "sigma_small",
    "rescale_learned_sigmas",
    "timestep_respacing",
    "num_heads_upsample",
}
_CHOICES = {"noise_schedule": ("linear", "cosine")}
_SCHEDULE = ("diffusion_steps", "noise_schedule", "predict_xstart", "rescale_timesteps")
_HEADS = ("num_heads", "num_head_channels")  # the second goes before the first, unless it is −1
_COSINE_4000 = {"noise_schedule": "cosine", "diffusion_steps": 4000}

# The published models: (num_channels, channel_mult, num_res_blocks, resblock_updown) → the flags in the READMEs.
_PUBLISHED = {
    (192, (1, 2, 3, 4), 3, True): {
        **{"image_size": 64, "num_head_channels": 64, "use_new_attention_order": True, "noise_schedule": "cosine"},
    },
    (256, (1, 1, 2, 3, 4), 2, True): {"image_size": 128, "num_heads": 4},
    (256, (1, 1, 2, 2, 4, 4), 2, True): {"image_size": 256, "num_head_channels": 64},
    (256, (0.5, 1, 1, 2, 2, 4, 4), 2, True): {"image_size": 512, "num_head_channels": 64},
    (128, (1, 2, 3, 4), 3, False): {"image_size": 64, **_COSINE_4000, "rescale_timesteps": True},
    (128, (1, 2, 2, 2), 3, False): {"image_size": 32, **_COSINE_4000, "rescale_timesteps": True},
    (192, (1, 2, 3, 4), 3, False): {"image_size": 64, **_COSINE_4000},
    (128, (1, 1, 2, 2, 4, 4), 2, False): {"image_size": 256, "num_heads": 1},
}

# The published upsamplers, of the same sizes but for where attention is: the flags in the README.
_UPSAMPLERS = {
    (False, False, False, True, True, True): {"image_size": 256, "num_heads": 4},
    (False, False, False, False, True, True): {"image_size": 512, "num_head_channels": 64},
}
_UPSAMPLER_SIZES = (192, (1, 1, 2, 2, 4, 4), 2, True)


def read_structure(tensors, path, in_channels=None):
    """The flags that names and shapes tell, a dict; "attention": whether a level has it.

    Args:
        tensors: `Tensors` of the state dict.
        path: of the checkpoint, for errors.
        in_channels: what the user says; None where nothing.

    Raises:
        CheckpointError: a classifier, or blocks that lie otherwise than in OpenAI's U-Nets.
    """
    blocks = tensors.count("output_blocks.{}.")
    if not blocks or "out.2.weight" not in tensors:
        raise CheckpointError(
            "Only networks that denoise can be loaded. Received: the way down of a U-Net alone, as the "
            "classifiers of guided-diffusion are (64x64_classifier.pt). The files of diffusion models are "
            "those with “diffusion” in their names.",
            path,
        )
    # What doubles the size stands at the end of each level but the finest: a convolution, or a residual block behind
    # the first.
    ends = [
        k
        for k in range(blocks)
        if any(f"output_blocks.{k}.{j}.{leaf}" in tensors for j in (1, 2) for leaf in _RESAMPLING)
    ]
    levels = len(ends) + 1
    per_level = blocks // levels
    num_res_blocks = per_level - 1
    down = tensors.count("input_blocks.{}.")
    if ends != [per_level * (i + 1) - 1 for i in range(levels - 1)] or down != levels * per_level or num_res_blocks < 1:
        raise CheckpointError(
            "In a U-Net of OpenAI each level has n residual blocks on the way down and n + 1 on the way up, and "
            "convolutions or residual blocks change the size (conv_resample=False is not known here). Received: "
            f"{down} input blocks, {blocks} output blocks, the size doubled in {ends}.",
            path,
        )
    first = [f"input_blocks.{1 + i * per_level}" for i in range(levels)]
    widths = [tensors.shape(f"{block}.0.out_layers.3.weight")[0] for block in first]
    num_channels = tensors.shape("time_embed.0.weight")[1]
    inputs, outputs = tensors.shape("input_blocks.0.0.weight")[1], tensors.shape("out.2.weight")[0]
    inputs, known = _known_apart(inputs, outputs, in_channels, path)
    rows = tensors.shape("label_emb.weight")
    return {
        "in_channels": inputs,
        "concat_channels": known,
        "num_channels": num_channels,
        "channel_mult": [whole(width / num_channels) for width in widths],
        "num_res_blocks": num_res_blocks,
        "attention": [f"{block}.1.qkv.weight" in tensors for block in first],
        "resblock_updown": any(f"output_blocks.{k}.{j}.{_RESAMPLING[1]}" in tensors for k in ends for j in (1, 2)),
        "use_scale_shift_norm": tensors.shape("middle_block.0.emb_layers.1.weight")[0] == 2 * widths[-1],
        "learn_sigma": outputs == 2 * inputs,
        "class_cond": bool(rows),
        "num_classes": rows[0] if rows else None,
    }


_RESAMPLING = ("conv.weight", "in_layers.2.weight")


def _known_apart(inputs, outputs, told, path):
    """Channels of the sample, and of the small image beside it, enlarged, that OpenAI's upsamplers see: as many, or
    none.
    """
    upsampler = inputs % 2 == 0 and outputs in (inputs // 2, inputs) and told != inputs
    if upsampler and (outputs != inputs or inputs == 6 or told == inputs // 2):
        return inputs // 2, inputs // 2
    if outputs in (inputs, 2 * inputs):
        return inputs, 0
    raise CheckpointError(
        "A network that denoises has as many channels in its output as in its samples, or twice as many; an upsampler "
        f"sees as many again, the small image. Received: {inputs} channels in, {outputs} out"
        + ("." if told is None else f", in_channels={told!r}."),
        path,
    )


def complete_config(structure, given, path):
    """The whole config; "assumed" has sentences for what neither the shapes nor the user say.

    Args:
        structure: from `read_structure`.
        given: dict of the user's flags.
        path: of the checkpoint, for errors.

    Raises:
        CheckpointError: unknown flags, values that shapes contradict, or that are not known here.
    """
    given = dict(given)
    if structure["concat_channels"]:  # the scripts of upsamplers say it so
        given.pop("small_size", None)
        given |= {"image_size": given.pop("large_size")} if "large_size" in given else {}
    known = (*structure, *_FREE, "attention_resolutions")
    words = "Unknown flag of a U-Net of OpenAI: {unknown}. Known: {known}."
    check_known(set(given) - _NEEDLESS, known, words, path)
    key = (
        structure["num_channels"],
        tuple(structure["channel_mult"]),
        structure["num_res_blocks"],
        structure["resblock_updown"],
    )
    published = _published(key, structure) if structure["in_channels"] == 3 and structure["learn_sigma"] else None
    if published is not None:
        guessed = dict(published)
    else:
        widths = [mult * structure["num_channels"] for mult in structure["channel_mult"]]
        in_heads = [width for width, has in zip(widths, structure["attention"]) if has] + widths[-1:]
        guessed = (
            {"num_head_channels": 64} if structure["resblock_updown"] and not any(w % 64 for w in in_heads) else {}
        )
    if "num_heads" in given:
        guessed.pop("num_head_channels", None)  # which the scripts put before `num_heads`
    config = {**structure, **_FREE, **guessed, **{name: value for name, value in given.items() if name in _FREE}}
    for name, value in given.items():
        if name in structure and (name, value) != ("channel_mult", ""):
            must_agree(name, numbers(value) if name == "channel_mult" else value, structure[name], path)
    _check(config, given, path)
    config["assumed"] = _assumed(config, given, published)
    return config


def _published(key, structure):
    """The flags of the published model of these sizes, or None."""
    if not structure["concat_channels"]:
        return _PUBLISHED.get(key)
    return _UPSAMPLERS.get(tuple(structure["attention"])) if key == _UPSAMPLER_SIZES else None


def _check(config, given, path):
    """Raises CheckpointError for values that are not known, or contradict."""
    for name, known in _CHOICES.items():
        if config[name] not in known:
            raise CheckpointError(
                f"`{name}` is one of {', '.join(map(repr, known))}. Received: {name}={config[name]!r}", path
            )
    if given.get("num_heads_upsample", -1) not in (-1, config["num_heads"]):
        raise CheckpointError(
            "On the way up, attention has as many heads as on the way down. Received: "
            f"num_heads_upsample={given['num_heads_upsample']!r}, num_heads={config['num_heads']!r}",
            path,
        )
    if config["null_class"] and not (config["num_classes"] or 0) > 1:
        raise CheckpointError(
            "“No class” is the last of the classes in the file. Received: null_class=True, "
            f"num_classes={config['num_classes']}",
            path,
        )
    resolutions, size = given.get("attention_resolutions"), config["image_size"]
    if resolutions is not None:
        if size is None:
            raise CheckpointError("`attention_resolutions` are sizes of images: pass `image_size` as well.", path)
        sizes = [size // 2**i for i in range(len(config["channel_mult"]))]
        told = [n in numbers(resolutions) for n in sizes]
        if told != config["attention"]:
            found = [n for n, has in zip(sizes, config["attention"]) if has]
            raise CheckpointError(
                f"Where attention is follows from the names. Received: attention_resolutions={resolutions!r}, "
                f"image_size={size}, and the file has it at {found}",
                path,
            )


def _assumed(config, given, published):
    """Sentences of what was taken for granted."""
    told = set(given) | ({*_HEADS} if {*_HEADS} & set(given) else {_HEADS[config["num_head_channels"] == -1]})
    values = ", ".join(
        f"{name}={config[name]}" for name in (*_HEADS, "use_new_attention_order", *_SCHEDULE) if name not in told
    )
    if not values:
        return ()
    why = (
        "Shapes do not tell these"
        if published is None
        else "By its sizes it is one of the models that OpenAI published"
    )
    return (f"{why}; assumed: {values} (others: config={{…}}).",)


def numbers(value):
    """The numbers of a flag, "32,16,8" or a list."""
    parts = value.split(",") if isinstance(value, str) else value
    return [whole(float(part)) for part in parts]


def whole(value):
    """A float as an int, where it is one."""
    return int(value) if value == int(value) else value
