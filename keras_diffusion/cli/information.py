"""`keras-diffusion info`: what is installed and known, or what a run, a preset or a file holds."""

import json

from rich.table import Table
from rich.text import Text

from keras_diffusion.cli.run_folder import RunFolder
from keras_diffusion.configs.labels import listed


def info(console, path=None):
    """Prints versions, devices and known names, or what is in `path`."""
    if path is None:
        print_rows(console, _installation())
        return
    from keras_diffusion.cli.autoencoders import header, is_trained
    from keras_diffusion.cli.sampling import load_model

    rows, run = {}, RunFolder(path)
    if run.is_run:
        with run.only_config_errors():
            rows, trained = _run(run), is_trained(run.config)
        if trained:
            if run.weights is not None or run.finished:
                from keras_diffusion.models import AutoencoderModel

                model = AutoencoderModel.from_preset(path)
                rows = {"holds": "an autoencoder", **header(model), "scale": model.autoencoder.scale, **rows}
            print_rows(console, rows)
            return
    if not run.is_run or run.weights is not None or run.finished:
        model, source = load_model(path)
        rows = {"holds": source, **_model(model), **rows}
    print_rows(console, rows)


def _installation():
    from keras_diffusion import guidance, networks, predictors, samplers, schedulers
    from keras_diffusion.cli.environment import describe_environment
    from keras_diffusion.guidance.threshold import THRESHOLDS
    from keras_diffusion.models.optimizers import learning_rate_schedules, optimizers
    from keras_diffusion.runtime.hardware import package_version
    from keras_diffusion.training.loss_weighting import LOSS_WEIGHTINGS
    from keras_diffusion.training.time_distribution import TIME_DISTRIBUTIONS

    environment = describe_environment()
    others = {name: package_version(name) for name in ("jax", "tensorflow", "torch")}
    registries = {
        "networks": networks.NETWORKS,
        "noise schedules": schedulers.SCHEDULES,
        "predictors": predictors.PREDICTORS,
        "loss weightings": LOSS_WEIGHTINGS,
        "time distributions": TIME_DISTRIBUTIONS,
        "samplers": samplers.SAMPLERS,
        "spacings": schedulers.SPACINGS,
        "guidance": guidance.GUIDANCES,
        "thresholds": THRESHOLDS,
    }
    return {
        **environment["versions"],
        "backend": f"{environment['backend']} on {', '.join(environment['devices'])}",
        "backends installed": ", ".join(f"{name} {version}" for name, version in others.items() if version),
        "platform": environment["platform"],
        **{kind: ", ".join(registry.names()) for kind, registry in registries.items()},
        "optimizers": ", ".join(sorted(optimizers())),
        "learning-rate schedules": ", ".join(sorted(learning_rate_schedules())),
    }


def _model(model):
    network = model.network
    conditions = {"classes": model.num_classes, "context_dim": getattr(network, "context_dim", None)}
    return {
        "network": f"{type(network).__name__}, {network.count_params():,} parameters",
        "sample shape": str(model.sample_shape),
        **({"classes": listed(model.class_names, 50)} if model.class_names else {}),
        "conditions": ", ".join(f"{value} {key}" for key, value in conditions.items() if value) or "none",
        "noise schedule": type(model.noise_schedule).__name__,
        "predictor": type(model.predictor).__name__,
        "sampled": ", ".join(f"{key} {json.dumps(value)}" for key, value in model.sampling_defaults.items())
        or "as generate does",
        "average": "none" if model.ema is None else f"decay {model.ema}",
    }


def _run(run):
    config, environment = run.config, run.environment
    done, epochs = run.epochs_done, config["train"]["epochs"]
    rows = {
        "run": str(run.path),
        "status": f"finished, {done} epochs" if run.finished else f"unfinished, {done} of {epochs} epochs",
        "data": str(config["data"]["source"]),
        "backend": f"{environment['backend']} on {', '.join(environment['devices'])}",
        "started": environment["time"] + "".join(f", resumed {resumed['time']}" for resumed in environment["resumed"]),
        "pictures": str(len(list(run.samples.glob("*.png")))) if run.samples.is_dir() else "none",
    }
    last = run.metrics.read_text(encoding="utf-8").splitlines()[-1:] if run.metrics.is_file() else []
    if last:
        metrics = json.loads(last[0])
        rows[f"epoch {metrics['epoch']}"] = ", ".join(
            f"{key} {metrics[key]:.4g}" for key in ("loss", "val_loss") if metrics.get(key)
        )
    return rows


def print_rows(console, rows):
    """Prints a dict as two columns."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in rows.items():
        table.add_row(Text(key), Text(str(value)))  # not as markup: names and paths may have brackets
    console.print(table)
