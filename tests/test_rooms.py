"""What one sees of the package at a prompt: names, documentation, and what `kd.<room>.` and TAB offer."""

import inspect

import pytest

import keras_diffusion as kd

ROOMS = [name for name in kd.__all__ if inspect.ismodule(getattr(kd, name)) and name != "keras"]
TABLES = [  # list of names, getter, one name, one with a letter wrong
    ("samplers.names", "samplers.get", "dpmpp_2m", "dpmp_2m"),
    ("schedulers.names", "schedulers.get", "cosine", "cosin"),
    ("schedulers.spacing_names", "schedulers.get_spacing", "karras", "karas"),
    ("predictors.names", "predictors.get", "epsilon", "epsilom"),
    ("guidance.names", "guidance.get", "classifier_free", "clasifier_free"),
    ("guidance.threshold_names", "guidance.get_threshold", "static_threshold", "static_treshold"),
    ("networks.names", "networks.get", "unet", "unett"),
    ("training.loss_weighting_names", "training.get_loss_weighting", "min_snr", "min_snt"),
    ("metrics.names", "metrics.get", "mind", "mimd"),
    ("training.time_distribution_names", "training.get_time_distribution", "uniform", "unifrom"),
]


def at(path):
    room, name = path.split(".")
    return getattr(getattr(kd, room), name)


@pytest.mark.parametrize(("names", "get", "name", "misspelt"), TABLES, ids=[row[0] for row in TABLES])
def test_each_table_lists_its_names_and_knows_what_was_meant(names, get, name, misspelt):
    known = at(names)()
    assert name in known and known == sorted(known) and all(isinstance(text, str) for text in known)
    with pytest.raises(ValueError, match=f"Known names: .*{known[-1]}.*Received: '{misspelt}'. Did you mean '{name}'"):
        at(get)(misspelt)
    assert names.split(".")[1] in at(get).__doc__ and at(get).__name__ == get.split(".")[1]


def test_data_sets_have_names_too():
    assert kd.data.names() == ["digits", "emoji", "shapes"]


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_shows_its_public_names_and_each_is_documented(name):
    room = getattr(kd, name)
    assert dir(room) == sorted(room.__all__), "modules and helpers show up among the public names"
    for public in room.__all__:
        value = getattr(room, public)
        assert not callable(value) or (value.__doc__ or "").strip(), f"{name}.{public} has no docstring"


def test_the_package_shows_its_rooms():
    assert dir(kd) == sorted(kd.__all__)
    with pytest.raises(AttributeError, match="sampler") as error:
        _ = kd.sampler
    assert error.value.name == "sampler" and error.value.obj is kd  # with which Python asks: did you mean 'samplers'?
