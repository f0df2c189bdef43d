"""`export`: writes a model as a folder that diffusers loads.

a network, an autoencoder, a text encoder      config.json, diffusion_pytorch_model.safetensors
a model with schedule and predictor            model_index.json, scheduler/, unet/ or transformer/
                                               and what it has of vae/, text_encoder/, tokenizer/
"""

from pathlib import Path

from keras_diffusion.checkpoints.families.diffusers import component_of_network, write_schedule
from keras_diffusion.checkpoints.loading import LoadedCheckpoint
from keras_diffusion.configs.checks import check_choice
from keras_diffusion.containers.safetensors import write_safetensors
from keras_diffusion.models.diffusion_model import DiffusionModel
from keras_diffusion.runtime.files import atomic_folder, write_json
from keras_diffusion.runtime.finite import check_finite_arrays
from keras_diffusion.text.clip_tokenizer import END, START

_FORMATS = ("diffusers",)
_PIPELINES = {
    "UNet2DModel": "DDIMPipeline",
    "UNet2DConditionModel": "StableDiffusionPipeline",
    "DiTTransformer2DModel": "DiTPipeline",
}
# By the channels that are known beside four of latents: diffusers has a pipeline class for each kind of them.
_INPAINTING, _EDITING = "StableDiffusionInpaintPipeline", "StableDiffusionInstructPix2PixPipeline"
_OURS = ("_root", "prefix")  # keys of a loaded config that diffusers' has not


def export(model, folder, format="diffusers", weights="ema", config=None, overwrite=False):
    """Writes a model as a folder of diffusers.

    What was loaded from a single component is written as one, its config as it was; a pipeline, or a `DiffusionModel`,
    as a pipeline.

    Args:
        model: `LoadedCheckpoint`, `DiffusionModel`, or a network: `UNet2D`, `UNet2DCondition`, `DiTTransformer2D`,
            `AutoencoderKL`, `AutoencoderTiny`, `CLIPTextEncoder`.
        folder: folder to make.
        format: "diffusers".
        weights: "ema" (default), the average of a `DiffusionModel`, where there is one; or "raw".
        config: dict of keys of diffusers' config of the network, over those that follow from it:
            `use_linear_projection`, for example.
        overwrite: whether an existing folder may be replaced. Default False.

    Returns:
        the folder, as `pathlib.Path`.

    Raises:
        ValueError: a network, schedule, predictor or kind of pipeline that diffusers does not have; a network with
            adapters; an unknown format.
        FileExistsError: the folder exists and `overwrite` is False.
        FloatingPointError: weights that are NaN or infinite; a folder that is there stays.

    Example:

    >>> loaded = keras_diffusion.checkpoints.load("ddpm-cifar10-32")
    >>> keras_diffusion.checkpoints.export(loaded.diffusion_model(), "mine")
    """
    folder = Path(folder)
    if format not in _FORMATS:
        raise ValueError(f"Unknown format: {format!r}. Known: {', '.join(_FORMATS)}.")
    check_choice("weights", weights, ("ema", "raw"), "`weights` must be 'ema' or 'raw'")
    if folder.exists() and not overwrite:
        raise FileExistsError(
            f"Nothing is written over what exists. Received: folder={str(folder)!r}. Pass overwrite=True to replace it."
        )
    files = _files(model, weights, dict(config or {}))  # errors come before anything is written
    with atomic_folder(folder) as temporary:
        for name, content in files.items():
            _write(temporary / name, content)
    return folder


def _files(model, weights, config):
    """What goes into the folder: dict from names to JSON (a dict), text, or `Link`s of tensors (a list)."""
    if isinstance(model, LoadedCheckpoint):
        known = model.config if model.report.family == "diffusers" else {}
        kept = {key: value for key, value in known.items() if key not in _OURS}
        if model.predictor is None or (known and not known["_root"]):
            return _component_files("", model.network, {**kept, **config}, known)
        parts = {
            "sampling": model.sampling,
            "autoencoder": model.normalizer,
            **{key: model.options.get(key) for key in ("text_encoder", "tokenizer")},
        }
        return _pipeline_files(model.network, model.noise_schedule, model.predictor, {**kept, **config}, known, **parts)
    if isinstance(model, DiffusionModel):
        network = model.averaged_network() if weights == "ema" else model.network
        parts = {key: getattr(model, key, None) for key in ("autoencoder", "text_encoder", "tokenizer")}
        parts["sampling"] = model.sampling_defaults
        return _pipeline_files(network, model.noise_schedule, model.predictor, config, {}, **parts)
    return _component_files("", model, config, {})


def _component_files(folder, network, config, known):
    component = component_of_network(network)
    if component is None:
        raise ValueError(
            f"diffusers has no network like this. Received: a {type(network).__name__}. UNet2D, UNet2DCondition, "
            "DiTTransformer2D, AutoencoderKL, AutoencoderTiny and CLIPTextEncoder have counterparts there"
        )
    class_name = {} if component.library == "transformers" else {"_class_name": component.class_name}
    config = {**class_name, **component.config(network), **config}
    if network.adapters:
        raise ValueError(
            f"Whole models are written without adapters. Received: a {type(network).__name__} with "
            f"{len(network.adapters)}. "
            "Call merge_lora() first, or write the adapters alone with save_lora"
        )
    links = list(component.links(network, {**config, **{key: known[key] for key in _OURS if key in known}}))
    prefix = f"{folder}/" if folder else ""
    return {f"{prefix}config.json": config, f"{prefix}{component.weights_file}": links}


def _pipeline_files(
    network, schedule, predictor, config, known, autoencoder=None, text_encoder=None, tokenizer=None, sampling=None
):
    component = component_of_network(network)
    parts = {"" if component is None else component.folder: network, "vae": autoencoder, "text_encoder": text_encoder}
    files, index = {}, {}
    for folder, part in parts.items():
        if part is not None:
            main = part is network
            files |= _component_files(folder, part, config if main else {}, known if main else {})
            there = component_of_network(part)
            index[folder] = [there.library, there.class_name]
    scheduler = write_schedule(schedule, predictor, sampling)
    index["scheduler"] = ["diffusers", scheduler["_class_name"]]
    files["scheduler/scheduler_config.json"] = scheduler
    if tokenizer is not None:
        files |= _tokenizer_files(tokenizer)
        index["tokenizer"] = ["transformers", "CLIPTokenizer"]
    name = _pipeline_class(component, network)
    if name in ("StableDiffusionPipeline", _INPAINTING, _EDITING):
        index |= {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
    return {"model_index.json": {"_class_name": name, **index}, **files}


def _pipeline_class(component, network):
    known, channels = getattr(network, "concat_channels", 0), network.sample_shape[-1]
    if not known:
        return _PIPELINES[component.class_name]
    pipelines = (
        {channels + 1: _INPAINTING, channels: _EDITING} if component.class_name == "UNet2DConditionModel" else {}
    )
    if known not in pipelines:
        raise ValueError(
            "Of pipelines that see known channels, those of inpainting (a mask and latents) and of InstructPix2Pix "
            f"(latents) can be written. Received: a {type(network).__name__} with {channels} channels and {known} "
            "known ones. Export the network alone: export(model.network, folder)"
        )
    return pipelines[known]


def _tokenizer_files(tokenizer):
    words = tokenizer.words
    pad = END if tokenizer.pad_token is None else words[tokenizer.pad_token]
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad}
    return {
        "tokenizer/vocab.json": {word: token for token, word in enumerate(words)},
        "tokenizer/merges.txt": "\n".join(["#version: 0.2", *tokenizer.merges, ""]),
        "tokenizer/special_tokens_map.json": special,
        "tokenizer/tokenizer_config.json": {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": tokenizer.max_length,
            **special,
        },
    }


def _write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, list):
        tensors = {name: array for link in content for name, array in link.write().items()}
        check_finite_arrays(tensors, f"The file {path.name!r} of the export")
        write_safetensors(path, tensors)
    elif isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        write_json(path, content)
