"""`convert`: from an old file to a preset folder, which loads without it."""

from dataclasses import asdict
from pathlib import Path

from keras_diffusion.checkpoints.loading import load
from keras_diffusion.models.presets import save_preset


def convert(
    source,
    directory,
    weights="ema",
    state="best",
    config=None,
    strict=True,
    overwrite=False,
    verbose="auto",
    custom_objects=None,
):
    """Writes a checkpoint of an older system as a preset.

    The folder has the files of `DiffusionModel.save_to_preset`, and `conversion.json`, the report. What is no denoising
    network is written as it is, and read back with `models.presets.load_preset(keras.Model, directory)`.

    Args:
        source: what `load` takes.
        directory: folder to make.
        weights, state, config, strict, verbose, custom_objects: see `load`.
        overwrite: whether an existing preset may be replaced. Default False.

    Returns:
        the `Report`.

    Raises:
        CheckpointError: see `load`.
        FileExistsError: the folder exists and `overwrite` is False.
    """
    directory = Path(directory)
    if directory.exists() and not overwrite:
        raise FileExistsError(
            "A preset is not written over what exists. Received: "
            f"directory={str(directory)!r}. Pass overwrite=True to replace it."
        )
    loaded = load(source, weights, state, config, strict, verbose, custom_objects)
    model = loaded.network if loaded.predictor is None else loaded.diffusion_model()
    save_preset(
        model, directory, overwrite, extra={"conversion.json": {**asdict(loaded.report), "config": loaded.config}}
    )
    return loaded.report
