"""Text to image from the files of KerasCV's Stable Diffusion."""

from pathlib import Path

from keras_diffusion.checkpoints.inspection import inspect
from keras_diffusion.checkpoints.loading import load
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.models.text_to_image import TextToImage
from keras_diffusion.networks import AutoencoderKL
from keras_diffusion.text import CLIPTokenizer

_NEEDED = ("diffusion_model", "text_encoder", "decoder")


def load_text_to_image(files, bpe_path, config=None, verbose="auto", **options):
    """Loads KerasCV's Stable Diffusion from its files, whatever they are called.

    Args:
        files: a folder with the `.h5` files of one model, or a list of their paths: diffusion model, text encoder,
            decoder, and image encoder, which only images to start from need.
        bpe_path: path of the tokenizer's vocabulary, `bpe_simple_vocab_16e6.txt.gz`.
        config: dict from components ("diffusion_model", "text_encoder", …) to what their shapes cannot tell, as in
            `load`.
        verbose: as in `load`.
        options: arguments of `TextToImage`.

    Returns:
        `models.TextToImage`.

    Raises:
        CheckpointError: a component missing or there twice, a file of another family, or what `load` raises.
        FileNotFoundError: no such file or folder.

    Example:

    >>> model = load_text_to_image("stable-diffusion", "bpe_simple_vocab_16e6.txt.gz")
    >>> images = model.text_to_image("a watercolour of a lighthouse", num_steps=25)
    """
    found: dict[str, Path] = {}
    for path in _paths(files):
        component = (inspect(path).config or {}).get("component")
        if component is None:
            raise CheckpointError("Each file is to hold a part of KerasCV's Stable Diffusion. This one does not.", path)
        if component in found:
            raise CheckpointError(
                f"Each component is in one file. Received two for {component}; the first: {found[component]}.", path
            )
        found[component] = path
    missing = [component for component in _NEEDED if component not in found]
    if missing:
        received = ", ".join(f"{component} ({path.name})" for component, path in found.items()) or "none"
        raise CheckpointError(
            "Images of words take a diffusion model, a text encoder and a decoder. Missing: "
            f"{', '.join(missing)}. Received: {received}."
        )
    loaded = {
        component: load(path, config=(config or {}).get(component), verbose=verbose)
        for component, path in found.items()
    }
    autoencoder = loaded["decoder"].network
    if "image_encoder" in loaded:
        autoencoder = AutoencoderKL.join(loaded["image_encoder"].network, autoencoder)
    diffusion, text_encoder = loaded["diffusion_model"], loaded["text_encoder"].network
    tokenizer = CLIPTokenizer(bpe_path, max_length=text_encoder.max_length)
    if tokenizer.vocabulary_size > text_encoder.vocabulary_size:
        raise CheckpointError(
            f"The tokenizer knows {tokenizer.vocabulary_size} tokens, the text encoder "
            f"{text_encoder.vocabulary_size}: they do not belong together.",
            bpe_path,
        )
    parts = {
        "noise_schedule": diffusion.noise_schedule,
        "predictor": diffusion.predictor,
        "sampling_defaults": diffusion.sampling,
        **diffusion.options,
        **options,
    }
    return TextToImage(diffusion.network, text_encoder, tokenizer, autoencoder, **parts)


def _paths(files):
    if isinstance(files, (list, tuple)):
        return [Path(path) for path in files]
    folder = Path(files)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"Pass the folder with the files, or a list of them. Received: files={str(files)!r}, which is no folder"
        )
    return sorted(folder.glob("*.h5"))
