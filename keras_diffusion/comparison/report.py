"""From the processes' measurements to the content of `compare.json`, a dict.

compile time   first step (first call of `generate`) minus the median of the others
step time      median and quartiles of all steps but the first
"""

import datetime
import math
import platform

import numpy as np

from keras_diffusion.comparison import differences
from keras_diffusion.comparison.inputs import KIND
from keras_diffusion.comparison.page import write_page
from keras_diffusion.runtime.files import write_json
from keras_diffusion.version import __version__


def summarize(spec, results, reference, facts):
    """The content of `compare.json`.

    Args:
        spec: from `make_inputs`.
        results: backend → result of `run_backend`.
        reference: name of the backend that the others are compared with.
        facts: dict of further facts about the model.

    Returns:
        JSON-like dict; a number that is not finite is the text "inf" or "nan". A backend's "difference" is None for the
        reference, and missing if it, or the reference, has not finished.
    """
    settings = spec["settings"]
    rows = {}
    for backend, result in results.items():
        rows[backend] = {"status": result["status"]}
        if result["status"] != "ok":
            rows[backend]["reason"] = result["reason"]
            continue
        rows[backend] |= {key: result[key] for key in ("devices", "versions", "memory")}
        training = result["training"]
        timing = _timing(training["seconds"], settings["batch_size"])
        rows[backend]["training"] = {**timing, "losses": training["losses"]}
        rows[backend]["sampling"] = _timing(result["sampling"]["seconds"], len(result["samples"]))
        if results[reference]["status"] == "ok":
            rows[backend]["difference"] = difference(result, results[reference]) if backend != reference else None
    summary = {
        "kind": KIND,
        **facts,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "platform": platform.platform(),
        "keras_diffusion": __version__,
        "reference": reference,
        **{key: spec[key] for key in ("settings", "sample_shape", "random_data")},
        "layer_limit": differences.LAYER_LIMIT,
        "backends": rows,
    }
    return _finite(summary)


def difference(result, reference):
    """The differences of one backend's result from another's, a dict."""
    loss, steps = differences.losses(result["training"]["losses"], reference["training"]["losses"])
    layers = differences.layers(result["layers"], reference["layers"])
    return {
        "loss": loss,
        "loss_of_steps": steps,
        "samples": differences.samples(result["samples"], reference["samples"]),
        "largest_layer": differences.largest(layers),
        "first_layer_above_limit": differences.first_above(layers),
        "layers": layers,
    }


def write_report(folder, summary, results):
    """Writes `compare.json` and `compare.html`."""
    write_json(folder / "compare.json", summary)
    samples = {name: result["samples"] for name, result in results.items() if result["status"] == "ok"}
    write_page(folder / "compare.html", summary, samples)


def _timing(times, samples):
    low, median, high = (float(q) for q in np.quantile(times[1:], [0.25, 0.5, 0.75]))
    return {
        "compile_s": max(0.0, times[0] - median),
        "median_s": median,
        "quartiles_s": [low, high],
        "images_per_s": samples / median,
        "seconds": times,
    }


def _finite(value):
    """JSON has no NaN and no infinity."""
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
