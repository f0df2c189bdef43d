"""`keras-diffusion train`: from a configuration to a run folder, in one go or in several."""

import contextlib
import json
import math
import shlex
import signal

import keras
import numpy as np
from rich.console import Console

from keras_diffusion import networks, samplers
from keras_diffusion.callbacks import (
    GenerationMetrics,
    MetricsJSONL,
    ReconstructionMetrics,
    Resume,
    SampleGrid,
    TerminateOnNonFinite,
    TimeLeft,
)
from keras_diffusion.cli import autoencoders, building
from keras_diffusion.cli.config import (
    ConfigError,
    apply_sets,
    config_errors,
    differences,
    parse_labels,
    read_config,
    saving_options,
)
from keras_diffusion.cli.devices import check_layout, describe_distribution, lost_processes, on_devices, share_data
from keras_diffusion.cli.environment import counted, describe_environment
from keras_diffusion.cli.information import print_rows
from keras_diffusion.cli.run_folder import RunFolder, default_folder
from keras_diffusion.configs.labels import listed, name_of
from keras_diffusion.metrics.generation import GenerationEvaluator
from keras_diffusion.metrics.reconstruction import ReconstructionEvaluator
from keras_diffusion.runtime.devices import is_writer, values_of_all, wait_for_all, writing
from keras_diffusion.runtime.files import NotWritten
from keras_diffusion.runtime.interrupts import Interrupts
from keras_diffusion.runtime.optional import import_optional
from keras_diffusion.visualization import loss_curve

_BYTES = {"float64": 8, "int64": 8, "bfloat16": 2, "float16": 2}  # of a number; 4 for the rest


def train(console, config_path=None, sets=(), out=None, resume=False, overwrite=False, verbose="auto", devices=None):
    """Trains the model of a configuration.

    Args:
        console: `rich.console.Console`.
        config_path: path of the configuration. With `resume`, it may be left out, or be the run folder itself.
        sets: assignments "a.b=value" over it.
        out: the run folder; default `runs/<date>-<name>`.
        resume: whether to continue the run in that folder.
        overwrite: whether to delete a run in that folder first.
        verbose: of `fit`: 0, 1, 2 or "auto".
        devices: devices to share the work, such as "data=4,model=2", or None for one. With several processes, all train
            and the first one writes.

    Returns:
        the `RunFolder`.

    Raises:
        ConfigError: an error that the user can fix.
        KeyboardInterrupt: stopped; the run can be resumed.
        ConnectionError: another process was lost.
    """
    notice = "Stopping after this step; once more stops at once."
    with Interrupts((signal.SIGINT, signal.SIGTERM), notice), on_devices(devices), lost_processes():
        if not is_writer():
            console, verbose = Console(quiet=True), 0
        if out is None:
            out = config_path if resume else default_folder(config_path)
        run = RunFolder(out)
        if resume or not run.locks:  # a wrong call must not change anything, not even create a lock
            run.require_run() if resume else run.check_free(overwrite)
        with _locked(run):
            return _train(console, run, config_path, sets, resume, overwrite, verbose)


@contextlib.contextmanager
def _locked(run):
    """`run.locked()`, taken by the process that writes; the others learn whether it succeeded."""
    with contextlib.ExitStack() as stack:
        refused = None
        try:
            if is_writer():
                stack.enter_context(run.locked())
        except ConfigError as error:
            refused = error
        if any(values_of_all(refused is not None)):
            raise refused or ConfigError("Another run is going on in this folder, as the first process says.")
        yield


def _train(console, run, config_path, sets, resume, overwrite, verbose):
    if resume:
        run.require_run()
        config, batches, validation = _resolve_again(run, config_path, sets)
        if config["train"]["epochs"] < run.epochs_done:
            raise ConfigError(
                f"The run in {str(run.path)!r} has finished {run.epochs_done} epochs. Received: "
                f"train.epochs={config['train']['epochs']}"
            )
        if run.finished and config["train"]["epochs"] == run.epochs_done:
            _say_finished(console, run)
            return run
    else:
        run.check_free(overwrite)
        config, batches, validation = building.resolve(apply_sets(read_config(config_path), sets))
    trains_autoencoder = autoencoders.is_trained(config)
    pictures = None if trains_autoencoder else _sample_options(config)
    if pictures or (trains_autoencoder and config["train"]["samples"]["every"]):
        import_optional(
            "PIL.Image",
            extra="viz",
            purpose="the pictures of samples while training (train.samples.every=0 draws none)",
        )
    share_data(console, batches, validation)
    model = building.build_model(config, weights=run.weights if resume else None)
    check_layout(model)
    callbacks = _callbacks(run, config, batches, pictures, validation)
    if verbose:
        callbacks.insert(
            0, TimeLeft(write=lambda line: console.print(line, markup=False, soft_wrap=True), advice=_if_long(config))
        )
    environment = {**describe_environment(), **describe_distribution()}
    wait_for_all("checked")  # before the folder changes
    if resume:
        _note_backend(console, run, environment)
    if is_writer():
        run.continue_with(config, environment) if resume else run.create(config, environment, overwrite)
    wait_for_all("begun")
    print_rows(console, _header(run, config, model, batches, validation, environment, pictures))
    if verbose and keras.backend.backend() != "torch":
        each = " for each shape" if None in batches.image_shape else ""
        trained = model.autoencoder if trains_autoencoder else model.network
        console.print(f"Compiling the training step, about {_compile_time(trained)}{each} …", markup=False)
    try:
        model.fit(
            batches, validation_data=validation, epochs=config["train"]["epochs"], callbacks=callbacks, verbose=verbose
        )
        if trains_autoencoder:
            _measure_latents(console, model, batches)
        _finish(console, run, model)
    except KeyboardInterrupt:
        _say_interrupted(console, run, config)
        raise
    except FloatingPointError as error:
        raise FloatingPointError(f"{error} Nothing was saved since it broke. {_saved(run)}.") from error
    except NotWritten as error:
        raise OSError(
            f"{error} {_saved(run)}; continue, when there is room, with: {resume_command(run.path)}"
        ) from error
    return run


def resume_command(folder):
    """The command that continues a run, to be pasted into a shell."""
    return f"keras-diffusion train --resume --out {shlex.quote(str(folder))}"


def _resolve_again(run, config_path, sets):
    """The result of `building.resolve` for the run's configuration, or for a given one, which must be equal."""
    own = config_path is None or RunFolder(config_path).path.resolve() == run.path.resolve()
    config = apply_sets(run.config if own else read_config(config_path), sets)
    if own:
        _check_same(run, config)  # before resolving: options added by a newer version are not the user's changes
    config, batches, validation = building.resolve(config)
    if not own:
        _check_same(run, config)
    return config, batches, validation


def _check_same(run, config):
    changed = differences(run.config, config)
    changed.pop("train.epochs", None)
    if changed:
        listed = "; ".join(f"{key}: {old!r} in the run, {new!r} now" for key, (old, new) in changed.items())
        raise ConfigError(
            f"A run is resumed as it was begun; only train.epochs may change. Received: {listed}. "
            "Leave these as they are, or start a new run in another folder."
        )


def _sample_options(config):
    """Arguments of `SampleGrid` without its folder, or None if there is nothing to draw."""
    options, network = dict(config["train"]["samples"]), config["network"]
    shape = network["input_shape"]
    if options["every"] == 0 or len(shape) not in (3, 4) or shape[-1] not in (1, 3, 4):
        return None
    if len(shape) == 4 and None in shape:
        return None
    if None in shape:
        options["size"] = config["data"]["image_size"]
        if options["size"] is None:
            return None
    labels, per_label, num_samples = (options.pop(key) for key in ("labels", "per_label", "num_samples"))
    if options.get("prompts"):
        return options
    options.pop("prompts", None)
    classes = network.get("num_classes")
    if not classes:
        return {**options, "num_samples": num_samples}
    names = config["model"].get("class_names")
    labels = (
        list(range(min(classes, 10)))
        if labels is None
        else parse_labels(labels, names, classes, "train.samples.labels")
    )
    titles = [name_of(label, names) for label in labels] if names else None
    conditions = {"labels": [label for label in labels for _ in range(per_label)]}
    return {**options, "conditions": conditions, "cols": per_label, "titles": titles}


def _callbacks(run, config, batches, pictures, validation):
    # The state is saved last: a run killed before that repeats the whole epoch, pictures and line of metrics included.
    trained = autoencoders.is_trained(config)
    scores = _scores(run, config, batches, validation)
    callbacks = [TerminateOnNonFinite(raise_error=True), *scores, MetricsJSONL(run.metrics)]
    if pictures:
        samplers.get(pictures["sampler"])  # an unknown name is an error now, not after the tenth epoch
        callbacks.append(SampleGrid(run.samples, **_with_known_channels(pictures, batches)))
    if trained:
        callbacks += autoencoders.reconstructions(run.samples, config, validation or batches)
    return [*callbacks, Resume(run.state, data=batches, **saving_options(config["train"]["save_every"]))]


def _scores(run, config, batches, validation):
    """The callback that measures samples, or an autoencoder's reconstructions, in a list; an empty one without."""
    options = dict(config["train"]["metrics"])
    every, names, best = (options.pop(key) for key in ("every", "names", "best"))
    if every == 0:
        return []
    num_samples, extractor = options.pop("num_samples"), options.pop("extractor")
    if best is not None and best not in names:
        raise ConfigError(
            f"`train.metrics.best` is one of those measured: {', '.join(map(str, names))}. Received: best={best!r}"
        )
    with config_errors("[train.metrics] "):  # now, not after the first epochs
        # What is kept for other processes lies in the run's folder, which is there once it is resumed.
        cache = run.generated / "features" if run.is_run else None
        kept = {"every": every, "best": None if best is None else run.best, "monitor": best}
        if autoencoders.is_trained(config):
            evaluator = ReconstructionEvaluator(validation or batches, names, extractor, num_samples, cache=cache)
            return [ReconstructionMetrics(evaluator, **kept)]
        samplers.get(options["sampler"])
        evaluator = GenerationEvaluator(batches, names, extractor, num_samples, batches, cache=cache)
        return [GenerationMetrics(evaluator, **kept, **options)]


def _with_known_channels(pictures, batches):
    """The options of pictures, with the known channels, “concat”, of the first samples, if the data have some."""
    if "prompts" in pictures or None in batches.image_shape:
        return pictures
    labels = pictures.get("conditions", {}).get("labels")
    rows = np.arange(pictures["num_samples"] if labels is None else len(labels))
    if batches.num_samples is not None:  # of a stream it may be unknown, and there are enough
        rows %= batches.num_samples
    first = batches.source.batch(rows)
    if "concat" not in first:
        return pictures
    return {**pictures, "conditions": {**pictures.get("conditions", {}), "concat": np.asarray(first["concat"])}}


def _header(run, config, model, batches, validation, environment, pictures):
    number = "a stream of" if batches.num_samples is None else f"{batches.num_samples:,}"
    data = f"{config['data']['source']}: {number} samples of {_shape_of(batches)}"
    if config.get("network", {}).get("num_classes"):
        names = config["model"].get("class_names")
        data += f" in {config['network']['num_classes']} classes" + (f": {listed(names, 10)}" if names else "")
    if "text" in config:
        words = getattr(model.tokenizer, "words", None)  # of the captions; a loaded tokenizer has pieces of words
        data += f", {model.tokenizer.vocabulary_size:,} tokens" if words is None else f", {len(words):,} words"
    if validation is not None:
        data += f", {'some' if validation.num_samples is None else f'{validation.num_samples:,}'} held out"
    resumed = f", {run.epochs_done} of them done" if run.epochs_done or run.step_done else ""
    resumed += f", and {run.step_done} batches of the next" if run.step_done else ""
    if autoencoders.is_trained(config):
        trained, every = autoencoders.header(model), config["train"]["samples"]["every"]
    else:
        trained, every = _described(config, model), pictures and pictures["every"]
    return {
        **trained,
        "data": data,
        "training": f"{config['train']['epochs']} epochs of {len(batches)} batches of {batches.batch_size}{resumed}",
        "pictures": f"every {every} epochs" if every else "none",
        "backend": f"{environment['backend']} on {counted(environment['devices'])}",
        **({"devices": environment["distribution"]} if "distribution" in environment else {}),
        "folder": str(run.path),
    }


def _described(config, model):
    predictor, schedule = (_name(config["model"][key]) for key in ("predictor", "noise_schedule"))
    latents = {"latents": f"of {config['autoencoder']['run']}"} if "autoencoder" in config else {}
    return {
        "network": _describe_network(config, model),
        "model": f"{predictor}-prediction, {schedule} schedule",
        **latents,
    }


def _shape_of(batches):
    if None not in batches.image_shape:
        return "×".join(map(str, batches.image_shape))
    return f"{len(batches.bucket_counts)} shapes, {', '.join(f'{h}×{w}' for h, w in batches.bucket_counts)}"


def _describe_network(config, model):
    options, count = config["network"], model.network.count_params()
    size = networks.name_of_size(options, options["input_shape"]) if options["name"] == "unet" else None
    # Not the values' `nbytes`, which TensorFlow does not have.
    weight_bytes = sum(math.prod(v.shape) * _BYTES.get(v.dtype, 4) for v in model.network.variables)
    named = f"{options['name']} of size {size}" if size else options["name"]
    return f"{named}, {count:,} parameters ({max(1, round(weight_bytes / 1e6)):,} MB), {config['dtype']}"


def _compile_time(network):
    # XLA's time grows with the number of layers, and hardly with their size: 0.19 s each, measured on CPUs.
    layers = sum(1 for layer in network._flatten_layers() if layer.variables)
    return f"{max(5, 5 * round(0.19 * layers / 5))} s on an idle machine"


def _if_long(config):
    """Ways to shorten training, as options of the command line."""
    fewer = f"fewer epochs, train.epochs={max(1, config['train']['epochs'] // 4)}"
    if "autoencoder" in config:
        return [f"If that is too long (Ctrl-C stops, by --set): {fewer}."]
    network, data = config["network"], config["data"]
    shape = network["input_shape"]
    ways = []
    if network["name"] == "unet":
        size = networks.name_of_size(network, shape)
        smaller = networks.UNET_SIZES[: networks.UNET_SIZES.index(size)] if size else networks.UNET_SIZES[:1]
        ways += [f"a smaller network, network.size={smaller[-1]}"] if smaller else []
    else:
        ways.append(f"a smaller network, see the options of [network] ({network['name']})")
    if len(shape) == 3 and None not in shape and min(shape[:2]) >= 32 and data["source"] != "digits":
        ways.append(f"smaller pictures, data.image_size={min(shape[:2]) // 2}: a quarter of the time")
    ways.append(fewer)
    return [f"If that is too long (Ctrl-C stops, each by --set): {'; '.join(ways)}."]


def _name(identifier):
    return identifier.get("name", "?") if isinstance(identifier, dict) else identifier


def _measure_latents(console, model, batches):
    """Sets the scale with which a diffusion model can learn the latents."""
    statistics = model.measure_latents(batches)
    console.print(
        f"Latents have the standard deviation {statistics.std:.4g} over {len(batches)} batches; with the scale "
        f"{model.autoencoder.scale:.4g} it is 1.",
        markup=False,
        soft_wrap=True,
    )


def _finish(console, run, model):
    if is_writer():
        try:
            loss_curve(run.metrics, run.loss_curve)
        except ImportError as error:
            console.print(f"No {run.loss_curve.name}: {error}", markup=False, style="yellow")
    with writing(model) as writer:
        if writer:
            model.save_to_preset(run.model, overwrite=True)  # last: it is what makes the run a finished one
    wait_for_all("saved")
    if writer:
        _say_finished(console, run)


def _say_finished(console, run):
    folder = shlex.quote(str(run.path))
    console.print(
        f"Finished after {run.epochs_done} epochs. The model is in {run.model}",
        markup=False,
        style="green",
        soft_wrap=True,
    )
    prompt = ' --prompt "…"' if "text" in run.config else ""
    use = f"Sample from it:  keras-diffusion sample {folder}{prompt}"
    if autoencoders.is_trained(run.config):
        use = f"Learn its latents:  [autoencoder] run = {json.dumps(str(run.path))}, as in examples/latent.toml"
    console.print(use, markup=False, soft_wrap=True)
    more = f"{resume_command(run.path)} --set train.epochs={2 * run.epochs_done}"
    console.print(f"Train on:        {more}", markup=False, soft_wrap=True)


def _say_interrupted(console, run, config):
    done, step = run.epochs_done, run.step_done
    state = f"{done} of {config['train']['epochs']} epochs" + (f" and {step} steps" if step else "") + " are saved"
    state = state if done or step else "no step was saved yet"
    console.print(f"\nInterrupted: {state}. Continue with:", markup=False, style="yellow", soft_wrap=True)
    console.print(f"  {resume_command(run.path)}", markup=False, soft_wrap=True)


def _saved(run):
    """What of a run that broke off is there, a sentence without its dot."""
    if not run.epochs_done and not run.step_done:
        return "No epoch was finished"
    step = f" and {run.step_done} steps" if run.step_done else ""
    return f"The state after epoch {run.epochs_done}{step} is in {run.state}"


def _note_backend(console, run, environment):
    began = run.environment.get("backend")
    if began != environment["backend"]:
        console.print(
            f"The run began on {began} and goes on on {environment['backend']}: a sound "
            "continuation, but not the same numbers.",
            markup=False,
            style="yellow",
        )
