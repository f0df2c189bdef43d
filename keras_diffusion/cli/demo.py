"""`keras-diffusion demo`: a diffusion model from scratch, and an honest look at what it has learned.

1,438 handwritten digits of 8×8 pixels train a small U-Net; 359 are held out. Then four questions:

    Are the digits legible?    A classifier trained on the real training digits, which has never seen a generated one,
                               reads them. Perfect samples would score as high as the held-out real digits.
    Are they as varied?        FD and MIND between their features and those of training digits, in a small network
                               that learned to read these. Held-out real digits show what perfect samples would get.
    Are they new?              Distances of digits to their nearest training digit, for generated and for held-out ones.
                               A model that copies has smaller ones.
    What does guidance do?     Both, without it (scale 1) and with it (scale 2).

The result is a run folder, as of `keras-diffusion train`, with three more files: digits-grid.png, film-strip.png and
results.md (and .json). Every random number has a fixed seed.
"""

import time

import keras
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from keras_diffusion import callbacks, metrics, visualization
from keras_diffusion.cli import building
from keras_diffusion.cli.config import merge
from keras_diffusion.cli.environment import describe_environment
from keras_diffusion.cli.run_folder import RunFolder
from keras_diffusion.cli.training import resume_command
from keras_diffusion.runtime.files import write_whole
from keras_diffusion.runtime.optional import import_optional

#: What is trained, in the form of a configuration file.
CONFIG = {
    "seed": 0,
    "data": {"source": "digits", "batch_size": 32, "batches_per_epoch": 200},
    "network": {"name": "unet", "widths": [24, 48], "num_res_blocks": 1},
    "model": {"predictor": "v", "noise_schedule": "cosine", "ema": 0.998},
    "optimizer": {
        "name": "adam",
        "learning_rate": {
            "name": "cosine_decay",
            "initial_learning_rate": 0.0,
            "warmup_target": 2e-3,
            "warmup_steps": 200,
        },
    },
    "train": {"epochs": 24, "samples": {"every": 8, "labels": "0-9", "per_label": 10}},
}
#: How it is sampled and measured. Batches are as large as the pictures drawn while training, to reuse their program.
SAMPLING = {
    "num_steps": 30,
    "batch_size": 100,
    "sampler": "dpmpp_2m",
    "per_digit": 100,
    "guidance_scales": [1.0, 2.0],
    "seed": 1,
}

_QUICK_CONFIG = {
    "data": {"batches_per_epoch": 4},
    "network": {"widths": [8, 16]},
    "optimizer": {"learning_rate": {"warmup_steps": 1}},
    "train": {"epochs": 3, "samples": {"every": 2}},
}
# The rows of the table of results: what is measured, and how a cell shows it.
_CELLS = {
    "digits": "{digits:,}",
    "read correctly": "{accuracy:.1%} ± {accuracy_standard_error:.1%}",
    "FD": "{fd_shown}",
    "MIND": "{mind_shown}",
    "distance to training, median": "{distance_median:.2f}",
    "  mean": "{distance_mean:.2f}",
    "  smallest": "{distance_min:.2f}",
    "nearer than 95 % of real": "{share_nearer_than_95_percent_of_real:.1%}",
}
_QUICK_SAMPLING = {"num_steps": 5, "per_digit": 10}
_READER_STEPS = 200  # of the network whose features FD and MIND compare


def run_demo(out, overwrite=False, quick=False):
    """Trains, samples, measures, and writes a run folder.

    Args:
        out: the folder, new or empty.
        overwrite: whether an earlier run in `out` may be deleted. Default False.
        quick: only a few steps of a tiny network, to see that everything works; its digits are noise. Default False.

    Returns:
        dict of the results, as in `results.json`.

    Raises:
        ConfigError: `out` exists, and is not empty.
        ImportError: scikit-learn, Pillow or matplotlib is missing.
    """
    run = RunFolder(out)
    run.check_free(overwrite)
    with run.locked():
        return _run(run, overwrite, quick)


def _run(run, overwrite, quick):
    console = Console(highlight=False)
    for module, purpose in (
        ("sklearn.svm", "the digits and the judge"),
        ("PIL.Image", "pictures"),
        ("matplotlib.figure", "the loss curve"),
    ):
        import_optional(module, extra="demo", purpose=purpose)  # now, not after three minutes of training
    began = time.perf_counter()
    config, train, held_out = building.resolve(merge(CONFIG, _QUICK_CONFIG) if quick else CONFIG)
    sampling = {**SAMPLING, **_QUICK_SAMPLING} if quick else SAMPLING
    model = building.build_model(config)
    environment = describe_environment()
    run.create(config, environment, overwrite)
    _announce(console, run, config, sampling, model, train, held_out, environment, quick)

    try:
        seconds = {"training": _timed(_train, console, run, config, model, train, held_out)}
    except KeyboardInterrupt:
        console.print("\nInterrupted. Start again with --overwrite, or only finish the training with:", style="yellow")
        console.print(f"  {resume_command(run.path)}", markup=False, soft_wrap=True)
        raise
    model.save_to_preset(run.model)
    visualization.loss_curve(
        run.metrics, run.loss_curve, title="Error of the prediction, in training and on held-out digits"
    )

    console.print("\n[bold]2 of 3  Sampling[/bold]")
    digits, labels = {}, np.repeat(np.arange(10), sampling["per_digit"])
    with console.status(f"{len(labels):,} digits with each guidance scale, and the film strip"):
        seconds["sampling"] = _timed(_sample, run, sampling, model, labels, digits)

    console.print("[bold]3 of 3  Measuring[/bold]\n")
    results = {
        "quick": quick,
        **_measure(digits, labels, train.source, held_out.source, sampling),
        "seconds": {**seconds, "all": round(time.perf_counter() - began, 1)},
        "sampling": sampling,
    }
    run.write("results.json", results)
    write_whole(run.path / "results.md", _markdown(results).encode("utf-8"))
    _report(console, run, results, quick)
    return results


def _announce(console, run, config, sampling, model, train, held_out, environment, quick):
    steps = config["train"]["epochs"] * len(train)
    n = 10 * sampling["per_digit"]
    duration = "half a minute" if quick else "3 minutes on two CPU cores"
    console.print(f"[bold]A diffusion model of handwritten digits, in about {duration}[/bold]\n")
    console.print(
        f"  1. train a U-Net of {model.network.count_params():,} weights on {len(train.source):,} real digits: "
        f"{steps:,} steps\n"
        f"  2. draw {n:,} new digits with each guidance scale, {sampling['num_steps']} network evaluations each\n"
        "  3. have them read by a classifier that knows real digits only, and look for copies of training digits\n\n"
        f"  {len(held_out.source)} real digits are held out of training, for comparison.\n"
        f"  {environment['backend']} on {', '.join(environment['devices'])}; everything goes to {run.path}\n",
        markup=False,
        soft_wrap=True,
    )


def _train(console, run, config, model, train, held_out):
    console.print("[bold]1 of 3  Training[/bold]")
    samples = {k: v for k, v in config["train"]["samples"].items() if k not in ("labels", "per_label", "num_samples")}
    per_label = config["train"]["samples"]["per_label"]
    pictures = callbacks.SampleGrid(
        run.samples, conditions={"labels": np.repeat(np.arange(10), per_label)}, cols=per_label, **samples
    )
    model.fit(
        train,
        validation_data=held_out,
        epochs=config["train"]["epochs"],
        callbacks=[
            callbacks.TerminateOnNonFinite(raise_error=True),
            callbacks.MetricsJSONL(run.metrics),
            pictures,
            callbacks.Resume(run.state, data=train, every=4),
            TrainingProgress(console),
        ],
        verbose=0,
    )


class TrainingProgress(keras.callbacks.Callback):
    """One progress bar for the whole training; without a terminal, a line every few epochs.

    Args:
        console: `rich.console.Console`.
    """

    def __init__(self, console):
        super().__init__()
        self.console = console
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal)

    def on_train_begin(self, logs=None):
        self.bar.start()
        self.task = self.bar.add_task("compiling …", total=self.params["epochs"] * self.params["steps"])

    def on_train_batch_end(self, batch, logs=None):
        self.bar.advance(self.task)

    def on_epoch_end(self, epoch, logs=None):
        text = f"loss {logs['loss']:.3f}, on held-out digits {logs['val_loss']:.3f}"
        self.bar.update(self.task, description=text)
        epochs = self.params["epochs"]
        if not self.console.is_terminal and ((epoch + 1) % 4 == 0 or epoch + 1 == epochs):
            self.console.print(f"  {100 * (epoch + 1) // epochs:3d} %  {text}")

    def on_train_end(self, logs=None):
        self.bar.stop()


def _sample(run, sampling, model, labels, digits):
    """Fills `digits` with samples by guidance scale, and draws the pictures."""
    options = {key: sampling[key] for key in ("num_steps", "batch_size", "sampler", "seed")}
    for scale in sampling["guidance_scales"]:
        digits[scale] = model.generate(conditions={"labels": labels}, guidance_scale=scale, verbose=0, **options)
    # The first ten of each class, not selected.
    rows = digits[sampling["guidance_scales"][0]].reshape(10, sampling["per_digit"], *model.sample_shape)[:, :10]
    visualization.save_png(
        run.path / "digits-grid.png",
        visualization.image_grid(rows.reshape(-1, *model.sample_shape), cols=10, pad=4, scale=6, background=None),
    )
    strip = model.generate(conditions={"labels": [2, 3, 5, 8]}, trajectory=True, verbose=0, **options)[1]
    visualization.save_png(
        run.path / "film-strip.png", visualization.film_strip(strip, steps=10, pad=4, scale=6, background=None)
    )


def _measure(digits, labels, training, held_out, sampling):
    """Accuracy of the judge, FD and MIND, and distances to the training data, of generated and of held-out digits."""
    training, held_out = (source.batch(np.arange(len(source))) for source in (training, held_out))
    judge, evaluator = metrics.train_classifier(training["images"], training["labels"]), _evaluator(training)
    some = _balanced(labels, len(held_out["images"]))  # FD and MIND fall with the number of samples
    walk = {"weights": "ema", **{key: sampling[key] for key in ("sampler", "num_steps", "seed")}}
    columns = []
    for scale, images in digits.items():
        neighbours = metrics.memorization(images, training["images"], held_out["images"])
        columns.append(_column(f"guidance {scale:g}", judge, images, labels, neighbours, neighbours.generated))
        columns[-1] |= _dicts(evaluator.measure(images[some], guidance_scale=scale, **walk))
    columns.append(
        _column("held-out real digits", judge, held_out["images"], held_out["labels"], neighbours, neighbours.held_out)
    )
    columns[-1] |= _dicts(evaluator.measure(held_out["images"]))
    _set_floor(columns)
    return {"judge": "a support vector classifier trained on the real training digits", "columns": columns}


def _evaluator(training):
    """FD and MIND against the training digits, by the features of a small network that learned to read them."""
    reader = {"name": "classifier", "steps": _READER_STEPS}
    reader = metrics.get_extractor(reader, images=training["images"], labels=training["labels"])
    return metrics.GenerationEvaluator(
        training, ["fd", "mind"], reader, num_samples=len(training["images"]), floor_halvings=0
    )


def _balanced(labels, count):
    """Places of `count` digits, as many of each class as there can be: proportions of classes move FD and MIND."""
    rank = np.array([np.sum(labels[:i] == label) for i, label in enumerate(labels)])
    return np.argsort(rank, kind="stable")[:count]


def _set_floor(columns):
    """Held-out digits are the floor of FD and MIND: real digits that are new, as many as of the generated ones."""
    *generated, real = columns
    for name in ("fd", "mind"):
        for column in generated:
            column[name]["floor"] = metrics.Floor(real[name]["value"], None, real[name]["n_generated"], 1)._asdict()


def _dicts(results):
    return {name: result.to_dict() for name, result in results.items()}


def _column(name, judge, images, labels, neighbours, distances):
    accuracy = metrics.classifier_accuracy(judge, images, labels)
    compared = metrics.Memorization(distances, neighbours.held_out)
    # One hit and one miss more than counted (Laplace): 1,000 of 1,000 is not certainty.
    likely = (accuracy * len(images) + 1) / (len(images) + 2)
    return {
        "name": name,
        "digits": len(images),
        "accuracy": accuracy,
        "accuracy_standard_error": float(np.sqrt(likely * (1 - likely) / len(images))),
        "distance_median": float(np.median(distances)),
        "distance_mean": float(np.mean(distances)),
        "distance_min": float(np.min(distances)),
        "share_nearer_than_95_percent_of_real": compared.closer_than(0.05),
    }


def _rows(results):
    """The table of results as text: a header and its rows."""
    columns = [{**column, **_as_text(column)} for column in results["columns"]]
    yield ["", *(c["name"] for c in columns)]
    yield from ([label, *(cell.format(**column) for column in columns)] for label, cell in _CELLS.items())


def _as_text(column):
    """FD and MIND of a column, as `_CELLS` shows them; a result without a floor is one."""
    found = {name: metrics.MetricResult.from_dict(column[name]) for name in ("fd", "mind")}
    return {f"{name}_shown": r.shown() + ("" if r.floor else " (floor)") for name, r in found.items()}


def _markdown(results):
    header, *rows = _rows(results)
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    took = results["seconds"]
    return (
        f"# Generated and real digits\n\n{table}\n\n*Read correctly*: {results['judge']}, finds the digit that was "
        "asked for; ± is one standard error. *FD, MIND*: distances between the features of "
        f"{results['columns'][0]['fd']['n_generated']} digits and those of the training digits, in a small network "
        "that learned to read these; the floor is what perfect samples would get. *Distance*: to the nearest training "
        "digit, Euclidean, over 64 pixels in [−1, 1]; 0 is a copy. *Nearer than 95 % of real*: a model that does not "
        f"copy has about 5 %.\n\nTraining took {took['training']:.0f} s, "
        f"sampling {took['sampling']:.0f} s, everything {took['all']:.0f} s.\n"
    )


def _report(console, run, results, quick):
    header, *rows = _rows(results)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for i, name in enumerate(header):
        table.add_column(name, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print(
        "\nRead by a classifier that was trained on real digits only. FD and MIND at the floor would be perfect; "
        "distance 0 would be a copy.",
        style="dim",
        soft_wrap=True,
    )
    if quick:
        console.print("\nA quick run only shows that everything works; these digits are noise.", style="yellow")
    console.print(f"\nDone in {results['seconds']['all']:.0f} s. Look at", style="green")
    for name, what in (
        ("digits-grid.png", "ten digits of each class, as they came"),
        ("film-strip.png", "from noise to digit"),
        ("loss.png", "the loss while training"),
        ("results.md", "the table above"),
    ):
        console.print(f"  {run.path / name}  {what}", markup=False, soft_wrap=True)
    console.print(
        f"More digits:  keras-diffusion sample {run.path} --labels 0-9 --per-label 8", markup=False, soft_wrap=True
    )


def _timed(function, *args):
    began = time.perf_counter()
    function(*args)
    return round(time.perf_counter() - began, 1)
