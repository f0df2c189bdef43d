"""`keras-diffusion evaluate` of an autoencoder: how good its reconstructions are.

metrics.json       every number with what it depends on
evaluation.html    the same, with pictures: originals above reconstructions, the best and the worst
"""

from pathlib import Path

import numpy as np

from keras_diffusion.cli import building
from keras_diffusion.cli.autoencoder_files import holds_autoencoder
from keras_diffusion.cli.config import ConfigError, config_errors
from keras_diffusion.cli.evaluating import (
    cache_for,
    feasible,
    folder_for,
    listed,
    name_in,
    print_results,
    size_of,
    summary_of,
)
from keras_diffusion.cli.reconstruction_page import write_reconstruction_page
from keras_diffusion.cli.run_folder import RunFolder
from keras_diffusion.cli.sampling import identifier
from keras_diffusion.data import load
from keras_diffusion.data import names as data_names
from keras_diffusion.metrics.feature_metric import FEATURE_METRICS
from keras_diffusion.metrics.picture_quality import psnr, ssim
from keras_diffusion.metrics.reconstruction import RECONSTRUCTION_METRICS, ReconstructionEvaluator
from keras_diffusion.metrics.reference import Reference
from keras_diffusion.metrics.result import with_error
from keras_diffusion.models import AutoencoderModel
from keras_diffusion.runtime.files import write_json

_PAIRED = {"psnr": ("PSNR, dB", psnr), "ssim": ("SSIM", ssim)}
_LEAST_SIDE = 6  # of pictures that SSIM takes


def evaluate_autoencoders(console, paths, metrics, num_samples, data, extractor, cache, out, overwrite, **options):
    """Measures autoencoders, prints a table, and writes metrics.json and evaluation.html.

    Args:
        console: `rich.console.Console`.
        paths: run folders or preset folders; the data are those of the first.
        metrics, num_samples, extractor, cache, out, overwrite: as in `evaluating.evaluate_models`.
        data: `source` of `data.load`; None (default) for the run's held-out data, or, where there are none, those that
            it was trained on.
        options: arguments of `AutoencoderModel.reconstruct`.

    Returns:
        the content of metrics.json, a dict.

    Raises:
        ConfigError: an error that the user can fix.
    """
    chosen = None if metrics is None else listed(metrics, "--metrics")
    with config_errors():
        [FEATURE_METRICS.get(metric) for metric in chosen or ()]
    out = folder_for(paths[0], out, "evaluation", ("metrics.json", "evaluation.html"), overwrite)
    models = {name_in(path, paths): _model(path) for path in paths}
    batches, which = _pictures(paths[0], data)
    console.print(f"Real data: {which}, {size_of(batches)}", markup=False, soft_wrap=True)
    with console.status("Features of real data"), config_errors():
        reference = Reference(batches, identifier(extractor), 2 * num_samples, cache_for(paths[0], cache))
        chosen = feasible(console, reference, num_samples, RECONSTRUCTION_METRICS) if chosen is None else chosen
        evaluator = ReconstructionEvaluator(reference, chosen, num_samples=num_samples)
    remade, results, pairs = {}, {}, {}
    for name, model in models.items():
        with console.status(f"Reconstructing {evaluator.num_samples:,} pictures with {name}"), config_errors():
            remade[name] = evaluator.reconstruct(model, **options)
            results[name] = evaluator.measure(remade[name], **evaluator.facts(model, options["weights"]))
            pairs[name] = _paired(remade[name], evaluator.originals)
    summary = {**summary_of(results, which), "pairs": {name: _means(found) for name, found in pairs.items()}}
    rows = _rows(pairs)
    print_results(console, evaluator, results, rows)
    write_json(out / "metrics.json", summary)
    write_reconstruction_page(out / "evaluation.html", Path(paths[0]).name, evaluator, results, remade, rows, summary)
    console.print(f"Wrote {out / 'evaluation.html'} and metrics.json", markup=False, style="green", soft_wrap=True)
    return summary


def _model(path):
    if not holds_autoencoder(path):
        raise ConfigError(
            f"Autoencoders are compared with autoencoders. Received: {str(path)!r}, which holds no AutoencoderModel"
        )
    with config_errors(kinds=(ValueError, FileNotFoundError)):
        return AutoencoderModel.from_preset(path)


def _pictures(path, source):
    """(the pictures, what they are called)."""
    run = RunFolder(path)
    if source is not None:
        size = run.config["data"].get("image_size") if run.is_run and source not in data_names() else None
        with config_errors(kinds=(ValueError, OSError)):
            return load(source, **({} if size is None else {"image_size": size})), source
    if not run.is_run:
        raise ConfigError(
            f"Which pictures are reconstructed has to be said for a model without a run. Received: {path}, no --data. "
            "Pass --data, such as emoji or the path of a folder"
        )
    with run.only_config_errors():
        training, held_out = building.load_data(run.config)
    return (held_out, "held out of the run") if held_out is not None else (training, "of the run's training")


def _paired(pictures, originals):
    """What compares each picture with its original: name → `(N,)`."""
    names = [name for name in _PAIRED if name != "ssim" or min(originals.shape[1:3]) >= _LEAST_SIDE]
    return {name: _PAIRED[name][1](pictures, originals) for name in names}


def _means(found):
    return {
        name: {"value": _finite(np.mean(values)), "standard_error": _finite(_error(values)), "n": len(values)}
        for name, values in found.items()
    }


def _rows(pairs):
    """Rows of the table: means over the pictures, with standard errors."""
    names = next(iter(pairs.values()))
    return [
        [
            _PAIRED[name][0],
            "higher",
            *(with_error(float(np.mean(found[name])), _error(found[name])) for found in pairs.values()),
            "–",
        ]
        for name in names
    ]


def _error(values):
    with np.errstate(invalid="ignore"):  # equal pictures have an infinite PSNR
        return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def _finite(number):
    """The number as JSON can hold it."""
    return float(number) if np.isfinite(number) else str(number)
