"""What users pass by mistake, at every entrance: each time the library's own error, with the value that was received.

A row is a function of the shared small models. Nothing is compiled: errors come before.
"""

import functools
import re
import types

import numpy as np
import pytest

import keras_diffusion as kd
from keras_diffusion import checkpoints, data, networks, predictors, samplers, schedulers
from keras_diffusion.callbacks import MetricsJSONL, Resume, SampleGrid
from keras_diffusion.checkpoints import CheckpointError
from keras_diffusion.guidance import (
    DPS,
    AveragePoolOperator,
    DiffPIR,
    DynamicThreshold,
    MaskOperator,
    MatrixOperator,
    PiGDM,
    StaticThreshold,
)
from keras_diffusion.guidance.pair import GUIDANCES
from keras_diffusion.models import interpolate_noise
from keras_diffusion.networks.network import NETWORKS as registry_of_networks
from keras_diffusion.training import get_loss_weighting, get_time_distribution

NAN, INF = float("nan"), float("inf")
X = np.zeros((4, 2), "float32")
PICTURES = np.zeros((4, 8, 8, 1), "float32")
OWN = (ValueError, FileNotFoundError, NotADirectoryError, CheckpointError)


@pytest.fixture(scope="module")
def made():
    """A plain model, one of classes, one of pictures, one with a context."""
    labelled = kd.DiffusionModel(networks.MLP((2,), width=8, depth=1, num_classes=3), seed=0)
    plain = kd.DiffusionModel(networks.MLP((2,), width=8, depth=1), seed=0)
    pictures = kd.DiffusionModel(networks.UNet((8, 8, 1), widths=(8,), num_res_blocks=1, attention=False), seed=0)
    context = kd.DiffusionModel(networks.MLP((2,), width=8, depth=1, context_dim=3), seed=0)
    for model in (labelled, plain, pictures, context):
        model.compile("sgd")
    return types.SimpleNamespace(labelled=labelled, plain=plain, pictures=pictures, context=context)


def options_of(function, table, *args, **fixed):
    """Rows that call `function(*args, **fixed, name=value)` for each name and each of its bad values."""
    for name, values in table.items():
        for value in values:
            yield (
                f"{getattr(function, '__name__', function)} {name}={value!r:.30}",
                functools.partial(lambda made, key, bad: function(*args, **{**fixed, key: bad}), key=name, bad=value),
            )


def calls(what, function, values):
    """Rows that call `function(made, value)`."""
    for value in values:
        yield f"{what} {value!r:.40}", functools.partial(lambda made, bad: function(made, bad), bad=value)


def of_model(which, method, table, *args, **fixed):
    """Rows that call a method of one of the models with one bad option each."""
    for name, values in table.items():
        for value in values:
            yield (
                f"{which}.{method} {name}={value!r:.30}",
                functools.partial(
                    lambda made, key, bad: getattr(getattr(made, which), method)(*args, **{**fixed, key: bad}),
                    key=name,
                    bad=value,
                ),
            )


def rows_of_registries():
    bad = [None, 3, "nonsense", {}, {"class_name": "os"}, {"name": 3}, [], b"ddim", {"name": "x" * 10**6}]
    bad += [{"module": "keras.layers", "class_name": "Dense", "config": {"units": 2}, "registered_name": None}]
    for get in (
        samplers.get,
        schedulers.get,
        schedulers.get_spacing,
        predictors.get,
        get_loss_weighting,
        get_time_distribution,
    ):
        unset = get is get_loss_weighting  # None means the plain error
        yield from calls(
            f"{get.__module__}.{get.__name__}", lambda made, value, get=get: get(value), bad[1:] if unset else bad
        )
    yield from calls("networks.get", lambda made, value: registry_of_networks.get(value), bad)
    yield from calls("guidance.get", lambda made, value: GUIDANCES.get(value), bad)
    yield from calls(
        "misspelt sampler option",
        lambda made, value: samplers.get("ddim", **{value: 0.5}),
        ["ets", "Eta", "etaa", "order"],
    )
    yield from calls(
        "misspelt sampler argument", lambda made, value: samplers.DDIMSampler(**{value: 0.5}), ["ets", "noise"]
    )
    yield from calls("sampler without an option", lambda made, value: schedulers.get(value), ["discrete"])


def rows_of_making_models():
    network = networks.MLP((2,), width=8, depth=1)
    table = {
        "noise_schedule": [None, 3, "cosin", {}, object()],
        "predictor": [None, "vv", 1.0],
        "loss_weighting": ["snrr", 2],
        "time_distribution": [None, "uniformly"],
        "condition_dropout": [NAN, -0.1, 1.1, "0.1", None, True],
        "ema": [NAN, 1.0, -0.1, "0.9", True],
        "autoencoder": [3, "vae", object()],
        "null_context": [np.zeros(3), "x", NAN],
        "noise_bands": [0, -1, 2.5, None, "4", True, 10**9],
        "seed": [-1, 2**64, 1.0, "0", True],
    }
    yield from options_of(kd.DiffusionModel, table, network)
    yield from calls(
        "DiffusionModel",
        lambda made, value: kd.DiffusionModel(value),
        [None, "unet", {}, 3, [], object, np.zeros(3), lambda x: x, networks.MLP, {"name": "mlp"}, b"unet"],
    )
    yield from calls("compile", lambda made, value: made.plain.compile(value), ["adamm", "", "x" * 10**5])
    words = np.array(["sea", "sky"])
    yield from calls(
        "predict text", lambda made, value: made.plain.predict(value, verbose=0), [words, words.astype(object)]
    )


def rows_of_generate():
    table = {
        "num_samples": [0, -1, 2.0, "4", True, NAN, [4]],
        "num_steps": [0, -1, 2.0, "4", None, True, NAN],
        "guidance_scale": [NAN, INF, None, "2", True, [2.0], 2.0],
        "strength": [NAN, -0.1, 1.5, None, "1", 0.5],
        "seed": [-1, 1.5, "0", 2**64, True],
        "batch_size": [0, -1, 2.0, "4", True],
        "sampler": [
            3,
            "ddin",
            {},
            "ddim_inversion",
            {"name": "ddim", "eta": 2},
            {"name": "ddim", "ets": 1},
            "repaint",
            object(),
        ],
        "spacing": [0, "karas", {}, 3.0, []],
        "guidance": [3, "apg2", {}, {"name": 3}, [3], [None], "rescale", {"name": "static_threshold", "limit": NAN}],
        "clip": ["yes", None, 3, NAN],
        "dtype": ["float64", None, 8, np.float32],
        "weights": ["best", None, 3, []],
        "verbose": ["yes", 7, None, []],
        "trajectory": ["y", None, 3],
        "noise": ["pink", 3, np.zeros(3)],
        "on_step": [3, "print"],
        "conditions": [[1], 3, "labels", {"labels": [0]}, {3: 1}],
        "latents": ["x", np.zeros((4, 3)), np.full((4, 2), NAN), [[1.0], [1.0, 2.0]], object()],
        "mask": [np.ones(2)],
        "negative_conditions": [{"labels": [0]}, 3],
    }
    yield from of_model("plain", "generate", table)
    table = {
        "conditions": [
            {"labels": "cat"},
            {"labels": ["a"]},
            {"labels": 3},
            {"labels": -1},
            {"labels": 0.5},
            {"labels": NAN},
            {"labels": [[0]]},
        ],
        "negative_conditions": [{"labels": 1}],
    }
    yield from of_model("labelled", "generate", table)
    table = {
        "conditions": [
            {"context": "a cat"},
            {"context": np.zeros((1, 2, 4))},
            {"context": np.full((1, 1, 3), NAN)},
            {"context": None},
        ]
    }
    yield from of_model("context", "generate", table)
    table = {
        "init": [
            PICTURES + 255.0,
            np.full((4, 8, 8, 1), NAN),
            np.zeros((4, 8, 9, 1)),
            np.zeros((8, 8)),
            "cat.png",
            PICTURES.astype(int),
            3,
        ],
        "size": [0, "big", (8,), 8.5, (8, 8, 1), 9, True, NAN],
    }
    yield from of_model("pictures", "generate", table)
    masks = [
        np.ones((9, 8)),
        np.ones((3, 8, 8)),
        np.full((8, 8), 2.0),
        np.full((8, 8), NAN),
        "mask",
        np.ones((8, 8, 2)),
        np.ones((1, 1, 8, 8, 1)),
    ]
    yield from of_model("pictures", "generate", {"mask": masks}, init=PICTURES)
    yield from of_model(
        "plain",
        "denoiser",
        {"guidance_scale": [NAN, None, "2"], "weights": ["best"], "conditions": [[1]], "guidance": [3]},
    )


def rows_of_measuring():
    table = {
        "samples": [None, "x", np.zeros((4, 3)), np.full((4, 2), NAN), object()],
    }
    yield from of_model("plain", "invert", table)
    table = {
        "num_steps": [0, "4", 2.0],
        "sampler": ["ddim", 3],
        "guidance_scale": [NAN, None],
        "batch_size": [0, -1, 2.0],
        "weights": ["x"],
    }
    yield from of_model("plain", "invert", {**table, "spacing": [0, "x"]}, X)
    table = {
        "num_steps": [0, 2.0, None, "4"],
        "method": ["ddim", "rk5", 3, None],
        "divergence": ["exactly", None, 3],
        "num_probes": [0, 1.5, "2", True],
        "seed": [-1, "0"],
        "data_mean": [NAN, "0", None],
        "data_std": [NAN, "1"],
        "sigma_min": [0, NAN, -1.0, "small"],
        "weights": ["best"],
        "batch_size": [0, 2.0],
        "verbose": ["yes"],
        "conditions": [[1]],
    }
    yield from of_model("plain", "log_likelihood", table, X)
    yield from of_model("plain", "bits_per_dim", {"data": [None, "x", np.zeros((4, 3)), np.full((4, 2), NAN)]})


def rows_of_training():
    table = {
        "epochs": [-1, 1.5, "2", None],
        "batch_size": [0, -1, 2.0, "4"],
        "steps_per_epoch": [0, -1, 1.5],
        "initial_epoch": [-1, 0.5],
        "validation_split": [NAN, -0.1, 1.0, "0.1"],
        "validation_steps": [0, 1.5],
    }
    yield from of_model("plain", "fit", table, X, verbose=0)
    yield from of_model(
        "plain", "fit", {"x": [None, "x", 3, np.zeros((0, 2), "float32"), np.full((4, 2), NAN, "float32")]}, verbose=0
    )
    table = {
        "x": [
            {"images": X, "labels": np.zeros(3, int)},
            {"images": X[:0], "labels": np.zeros(0, int)},
            {"images": X, "labels": np.array(["a"] * 4)},
            {"images": X, "labels": np.full(4, 3)},
            {"images": X, "labels": np.full(4, 0.5)},
            {"images": X},
            {"labels": np.zeros(4, int)},
            {"images": X, "labels": [[0], [1, 2], 0, 1]},
            {"images": [[0.0], [1.0, 2.0]], "labels": [0, 1]},
            [[0.0], [1.0, 2.0]],
            {},
        ]
    }
    yield from of_model("labelled", "fit", table, verbose=0)
    yield from of_model("plain", "evaluate", {"batch_size": [0, -1, 1.5], "steps": [0, 1.5]}, X, verbose=0)
    yield from of_model("plain", "enable_lora", {"rank": [0, -1, 1.5, "8", None, True]})
    yield from of_model(
        "plain", "enable_lora", {"alpha": [0, NAN, "1"], "target": ["nothing", 3, [], ["no_such_layer"]]}, 2
    )


def rows_of_data():
    images = np.zeros((8, 4, 4, 1), "uint8")
    table = {
        "batch_size": [0, -1, 2.0, "4", None, True, 9],
        "seed": [-1, 0.5, "0", 2**64],
        "shuffle": ["yes", 1, None],
        "drop_remainder": ["no", 0, None],
        "horizontal_flip": ["maybe", 0.5, None, 1],
        "augment": [3, "flip"],
        "num_classes": [0, -1, 2.5, "3", True],
        "value_range": [3, (0,), (1, 0), (NAN, 1), "x", ("a", "b")],
        "batches_per_epoch": [0, 1.5, "2"],
        "workers": [-3, 1.5, "2", None, True],
        "max_queue_size": [0, "1"],
        "use_multiprocessing": ["yes", 1],
        "hflip": [True],
    }
    yield from options_of(data.Batches, table, images, **{"batch_size": 4})
    table = {
        "split": ["tran", None, 3],
        "image_size": [0, -1, 2.5, "8", (8,), (8, 0), True, (8, "x")],
        "validation_fraction": [0, 1, NAN, "0.1", True],
        "channels": [1, 3],
        "background": ["white"],
        "batchsize": [4],
        "imagesize": [4],
        "horizontal_flips": [True],
    }
    yield from options_of(data.load, table, images)
    wrong = [None, 3, "/no/such/folder", b"x", {}, {"labels": [1]}, {"images": []}, [], object(), NAN]
    wrong += [
        {"images": images, "labels": [0, 1]},
        {"images": images, "labels": ["a"] * 8},
        {"images": [[1], [1, 2]]},
        np.array(["a", "b"]),
    ]
    yield from calls("data.load", lambda made, value: data.load(value), wrong)
    yield from calls("ImageFolder", lambda made, value: data.ImageFolder(value), ["/no/such/folder"])


def rows_of_networks():
    shapes = [32, None, "unet", (), (0, 1), (8.0, 8, 1), (8, "8", 1), (-8, 8, 1), (8,) * 6, True]
    for name in ("unet", "unet_2d", "dit", "uvit", "mlp", "ddpm_unet", "residual_unet", "edm_unet"):
        cls = type_of(name)
        yield from calls(cls.__name__, lambda made, value, cls=cls: cls(input_shape=value), shapes)
    table = {
        "widths": [8, (), (0,), (8.5,), None, "8", (True,)],
        "num_res_blocks": [0, 1.5, None, "2"],
        "attention": [3, "sometimes", (True, False, True)],
        "num_classes": [0, -1, 1.5, "3", True],
        "context_dim": [0, 1.5, "3"],
        "out_channels": [0, 1.5, "3"],
        "norm": ["batch", None, 3],
        "norm_groups": [0, 1.5, None],
        "norm_epsilon": [NAN, -1.0, "1e-5", None],
        "activation": ["swoosh", 3],
        "dropout": [NAN, 1.0, -0.1, "0.1"],
        "time_embedding": ["hours", None],
        "time_scale": [NAN, -1.0, "1"],
        "num_heads": [0, 1.5],
        "widht": [8],
    }
    yield from options_of(networks.UNet, table, (8, 8, 1), **{"widths": (8,), "attention": (True,)})
    table = {
        "width": [0, 1.5, "8"],
        "depth": [0, None],
        "num_classes": [0, "3"],
        "time_scale": [NAN],
        "activation": [3],
        "depht": [2],
    }
    yield from options_of(networks.MLP, table, (2,))


def type_of(name):
    return registry_of_networks._entries[name][0]


def rows_of_files():
    paths = [None, 3, "", "no/such/file", [], b"x", {}, NAN]
    yield from calls("checkpoints.load", lambda made, value: checkpoints.load(value), paths)
    yield from calls("checkpoints.inspect", lambda made, value: checkpoints.inspect(value), paths)
    yield from calls("from_preset", lambda made, value: kd.DiffusionModel.from_preset(value), paths)
    yield from options_of(
        checkpoints.load,
        {"weights": ["best", None, 3], "state": ["first", None, []], "config": [3, "x", [1]]},
        "no/such/file",
    )


def rows_of_the_rest():
    yield from options_of(StaticThreshold, {"limit": [0, NAN, INF, None, "1", True], "keep_eps": ["yes", 1]}, None)
    yield from options_of(
        DynamicThreshold, {"quantile": [0, 1.5, NAN, "0.9"], "limit": [0, NAN], "ceiling": [0.5, NAN, "2"]}, None
    )
    yield from options_of(
        DPS, {"noise_std": [0, NAN, "1"], "scale": [NAN, None, "1"]}, None, X, MaskOperator(np.ones(2))
    )
    yield from options_of(
        PiGDM, {"noise_std": [-1, NAN, None], "data_std": [0, NAN]}, None, X, MaskOperator(np.ones(2))
    )
    yield from options_of(
        DiffPIR, {"noise_std": [-1, "1"], "prior_weight": [0, NAN]}, None, X, MaskOperator(np.ones(2))
    )
    yield from calls(
        "MaskOperator", lambda made, value: MaskOperator(value), [np.full(2, 0.5), "x", None, NAN, [[1], [1, 0]]]
    )
    yield from calls("AveragePoolOperator", lambda made, value: AveragePoolOperator(value), [0, 1.5, "2", None, True])
    yield from calls(
        "MatrixOperator", lambda made, value: MatrixOperator(value), [3, "x", None, np.ones(2), np.full((2, 2), NAN)]
    )
    yield from options_of(
        interpolate_noise,
        {"seed": [-1, "0", 1.5], "other_seed": [-1], "num": [0, "3", 1.5]},
        **{"seed": 0, "other_seed": 1, "num": 3, "sample_shape": (2,)},
    )
    schedule, spacing = schedulers.get("cosine"), schedulers.get_spacing("linspace")
    yield from calls("levels", lambda made, value: schedule.levels(value), [-0.1, 1.1, NAN, "x", None, [0.5, "a"]])
    yield from calls("spacing steps", lambda made, value: spacing(schedule, value), [0, -1, 1.5, "3", None, True])
    yield from calls("spacing start", lambda made, value: spacing(schedule, 3, start=value), [0, 1.5, NAN, "1", None])
    sample = functools.partial(samplers.get("ddim").sample, X, lambda x, level: None)
    yield from calls(
        "sample levels",
        lambda made, value: sample(value),
        [None, 3, [1.0, 0.5], schedule.levels([0.5, 1.0]), schedule.levels([1.0])],
    )
    yield from options_of(MetricsJSONL, {"path": [None, 3, []]})
    yield from options_of(Resume, {"directory": [None, 3], "every": [0, 1.5, "2"]}, **{"directory": "unused"})
    yield from options_of(
        SampleGrid, {"every": [0, 1.5, "2"], "num_samples": [0, 1.5, "4"], "cols": [0, 1.5]}, **{"directory": "unused"}
    )


def rows_of_denoisers():
    point = kd.denoisers.MixtureDenoiser([1.0], [[0.0, 0.0]], [1.0])
    levels = schedulers.get("cosine").levels([0.9, 0.5, 0.1])
    network = networks.MLP((2,), width=8, depth=1)
    no_denoisers = [None, 3, "ddim", {}, X, network, kd.denoisers.MixtureDenoiser]
    wrong_answers = [lambda x, level: x, lambda x, level: (x,), lambda x, level: (x, x[:1]), lambda x, level: None]
    for name in ("ddim", "lcm", "heun", "dpm_adaptive"):
        yield from calls(
            f"{name} of what is no denoiser",
            lambda made, value, name=name: samplers.get(name).sample(X, value, levels),
            no_denoisers + wrong_answers,
        )
    yield from calls(
        "levels",
        lambda made, value: samplers.get("ddim").sample(X, point, value),
        [None, 3, "cosine", [1.0, 0.5], levels.sigma, levels.map(lambda v: v[::-1]), levels.map(lambda v: v[:1])],
    )
    wrappers = [
        StaticThreshold,
        DynamicThreshold,
        kd.denoisers.ConsistencyDenoiser,
        kd.denoisers.EDMConsistencyDenoiser,
        functools.partial(kd.guidance.ReplaceKnown, known=X, mask=1.0),
        functools.partial(kd.guidance.ClassifierGuidance, log_prob=lambda x, level: x[:, 0]),
        functools.partial(DPS, measurement=X, operator=MaskOperator([1, 0])),
        functools.partial(PiGDM, measurement=X, operator=MaskOperator([1, 0])),
        functools.partial(DiffPIR, measurement=X, operator=MaskOperator([1, 0])),
        functools.partial(kd.guidance.PerturbedAttention, scale=1.0),
        functools.partial(kd.guidance.ClassifierFreeGuidance, unconditional=point, scale=1.0),
        functools.partial(kd.guidance.RescaledGuidance, point, scale=1.0),
        functools.partial(kd.guidance.Autoguidance, point, scale=1.0),
    ]
    for wrapper in wrappers:
        name = getattr(wrapper, "func", wrapper).__name__
        yield from calls(name, lambda made, value, wrapper=wrapper: wrapper(value), no_denoisers)


def rows_of_pictures():
    from keras_diffusion import visualization

    table = {
        "rows": [0, -1, 1.5, "2", True],
        "cols": [0, 2.5, "2"],
        "pad": [-1, 0.5, None, "1"],
        "scale": [0, 1.5, None, "big", True],
        "background": [-1, 256, 0.5, "white", True],  # None is transparent
        "titles": [["one"], "x"],
    }
    yield from options_of(visualization.image_grid, table, PICTURES)
    for function in (visualization.image_grid, visualization.film_strip, visualization.scatter):
        yield from calls(
            function.__name__,
            lambda made, value, function=function: function(value),
            [np.zeros(3), np.zeros((0, 2)).T, np.array(["a"])],
        )


ROWS = [
    *rows_of_registries(),
    *rows_of_denoisers(),
    *rows_of_pictures(),
    *rows_of_making_models(),
    *rows_of_generate(),
    *rows_of_measuring(),
    *rows_of_training(),
    *rows_of_data(),
    *rows_of_networks(),
    *rows_of_files(),
    *rows_of_the_rest(),
]


def test_there_are_many_rows():
    assert len(ROWS) >= 300


def title(i, name):
    """Name of a row, the same in every test process: without addresses, and with its number."""
    return f"{i}-{re.sub(r' at 0x[0-9a-f]*', '', name)}"


@pytest.mark.parametrize("row", [row for _, row in ROWS], ids=[title(i, name) for i, (name, _) in enumerate(ROWS)])
def test_bad_inputs(made, row):
    with pytest.raises(OWN) as error:
        row(made)
    message = str(error.value)
    names_the_file = isinstance(error.value, (CheckpointError, OSError)) and "no/such/file" in message
    assert ("Received" in message or names_the_file) and len(message) < 3000, message
