import json

import numpy as np
import pytest

import keras_diffusion as kd
from keras_diffusion.metrics import Floor, MetricResult, Sweep, SweepCell, network_evaluations, sweep
from keras_diffusion.samplers import walk
from keras_diffusion.samplers.tables import rows_of

COUNTED = [
    name
    for name in kd.samplers.names()
    if not kd.samplers.get(name).ascends and not isinstance(kd.samplers.get(name), kd.samplers.AdaptiveSampler)
]


@pytest.fixture(scope="module")
def model():
    kd.keras.utils.set_random_seed(0)
    return kd.DiffusionModel(kd.networks.MLP((2,), width=8, depth=1, num_classes=3), seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTED)
def test_evaluations_are_counted_as_they_happen(model, name, monkeypatch):
    def loop(start, stop, body, carry):
        for i in range(int(start), int(stop)):
            carry = body(kd.keras.ops.convert_to_tensor(i, "int32"), carry)
        return carry

    monkeypatch.setattr(walk.ops, "fori_loop", loop)  # a compiled loop runs through Python once
    calls = []

    def denoise(x, level):
        calls.append(level)
        return 0.5 * x, x

    schedule, sampler = kd.schedulers.get("cosine"), kd.samplers.get(name)
    levels = kd.schedulers.get_spacing("linspace").levels(schedule, 6)
    rows = rows_of(sampler.table(levels, schedule))
    noise = np.zeros((rows, sampler.noises_per_step, 1, 2), "float32")  # to draw it would take long, uncompiled
    sampler.sample(np.ones((1, 2), "float32"), denoise, levels, noise, schedule)
    assert network_evaluations(model, name, 6, spacing="linspace") == len(calls)


def test_guidance_counts_twice(model):
    assert network_evaluations(model, "heun", 4) == 7  # the last step is to a clean level
    assert network_evaluations(model, "ddim", 4, guidance_scale=2.0) == 8
    assert network_evaluations(model) == 50  # as `generate` without arguments
    assert network_evaluations(model, "ddim", 4, 2.0, guidance="two_scales") == 12


def result(value, error=None):
    return MetricResult("mind", "MIND", "lower", value, 100, 100, error)


def test_the_table_and_the_best_cell():
    cells = (
        SweepCell("ddim", 4, 1.0, 4, result(3.0, 0.1)),
        SweepCell("heun", 4, 1.0, 7, result(1.25, 0.1)),
        SweepCell("heun", 4, 2.0, 14, None),
    )
    found = Sweep("MIND", "lower", cells, Floor(0.5, 0.1, 100, 5))
    assert found.best() is cells[1] and found.best(evaluations=5) is cells[0] and found.best(evaluations=1) is None
    assert found.cheapest() is cells[1]
    close = SweepCell("ddim", 5, 1.0, 5, result(1.34, 0.1))
    assert Sweep("MIND", "lower", (*cells, close), None).cheapest() is close
    assert found.table().splitlines()[2:] == [
        "| ddim | 4 | – | 4 | 3.00 ± 0.10 |",
        "| heun | 4 | – | 7 | **1.25 ± 0.10** |",
        "| heun | 4 | 2 | 14 | not finite |",
        "| *floor: real against real, 100 each* | | | | 0.5 |",
    ]
    assert list(found.curves()) == ["ddim, guidance 1", "heun, guidance 1", "heun, guidance 2"]
    content = json.loads(found.to_json())
    assert content["cells"][2]["result"] is None and content["floor"]["n"] == 100
    assert MetricResult.from_dict(content["cells"][0]["result"]) == cells[0].result
    assert Sweep.from_dict(content) == found
    labels = [text.get_text() for text in kd.visualization.plot_sweep(found).axes[0].get_legend().get_texts()]
    assert labels == ["floor: real data", "ddim, guidance 1", "heun, guidance 1"]  # no point where it is not finite
    wrong = [{**content, "more": 1}, {**content, "cells": {}}, {**content, "cells": [{}]}, {**content, "floor": 1}, []]
    for values in wrong:
        with pytest.raises(ValueError, match="Received: "):
            Sweep.from_dict(values)


def test_every_cell_starts_from_the_same_noise(model):
    rng = np.random.default_rng(0)
    data = {"images": rng.uniform(-1, 1, (120, 2)).astype("float32"), "labels": np.arange(120) % 3}
    told = []
    found = sweep(
        model,
        data,
        samplers=["ddim", {"name": "ddim", "eta": 1.0}],
        steps=[2, 3],
        num_samples=60,
        seed=1,
        floor_halvings=2,
        progress=lambda *args: told.append(args),
    )
    assert [(c.sampler, c.num_steps, c.evaluations) for c in found.cells] == [
        ("ddim", 2, 2),
        ("ddim", 3, 3),
        ("ddim, eta=1.0", 2, 2),
        ("ddim, eta=1.0", 3, 3),
    ]
    assert [args[:2] for args in told] == [(1, 4), (2, 4), (3, 4), (4, 4)] and told[0][2] is found.cells[0]
    alone = model.evaluate_generation(data, ["mind"], num_samples=60, sampler="ddim", num_steps=3, seed=1)["mind"]
    assert found.cells[1].result.value == alone.value and found.cells[0].result.value != alone.value


@pytest.mark.parametrize(
    "options, message",
    [
        ({"steps": []}, "A sweep needs samplers, steps and guidance scales"),
        ({"samplers": ["dim"]}, "Unknown sampler.*Did you mean 'ddim'"),
        ({"metric": "mint"}, "Unknown metric"),
    ],
)
def test_mistakes_are_errors_before_anything_is_generated(model, options, message):
    with pytest.raises(ValueError, match=message):
        sweep(model, np.zeros((40, 2)), **{"num_samples": 20, **options})
