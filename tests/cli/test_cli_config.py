import json
import sys

import pytest

from keras_diffusion.cli.config import (
    ConfigError,
    apply_sets,
    did_you_mean,
    differences,
    merge,
    parse_labels,
    read_config,
    with_defaults,
)

CONFIG = {"data": {"source": "digits"}, "optimizer": {"learning_rate": 3e-4}, "train": {"epochs": 3}}
TOML = '[data]\nsource = "digits"\n[optimizer]\nlearning_rate = 3e-4\n[train]\nepochs = 3\n'
YAML = "data: {source: digits}\noptimizer:\n  learning_rate: 3e-4\ntrain:\n  epochs: 3\n"


@pytest.mark.parametrize(
    "name, text", [("c.toml", TOML), ("c.json", json.dumps(CONFIG)), ("c.yaml", YAML), ("c.yml", YAML)]
)
def test_three_kinds_of_files_say_the_same(tmp_path, name, text):
    if "y" in name.split(".")[1]:
        pytest.importorskip("yaml")
    (tmp_path / name).write_text(text)
    assert read_config(tmp_path / name) == CONFIG


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("c.ini", "", "A configuration is a .toml, .json or .yaml file. Received"),
        ("c.toml", "[data", "Cannot read the configuration"),
        ("c.json", "{", "Cannot read the configuration"),
        ("c.json", "[1]", "A configuration holds the sections data, .* with a list"),
        (None, None, "which does not exist"),
    ],
)
def test_bad_files(tmp_path, name, text, message):
    if name:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_config(tmp_path / (name or "nothing.toml"))


def test_yaml_without_pyyaml_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "c.yaml").write_text(YAML)
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ImportError, match="pip install pyyaml, or write the configuration as .toml"):
        read_config(tmp_path / "c.yaml")


def test_set_parses_json_and_keeps_the_rest_as_text():
    sets = [
        "train.epochs=5",
        "network.widths=[8, 16]",
        "model.predictor=epsilon",
        "data.download=true",
        "model.ema=null",
        "seed=7",
    ]
    config = apply_sets(CONFIG, sets)
    assert config["train"]["epochs"] == 5 and config["network"]["widths"] == [8, 16] and config["seed"] == 7
    assert config["model"] == {"predictor": "epsilon", "ema": None} and config["data"] == {
        "source": "digits",
        "download": True,
    }
    assert CONFIG["train"]["epochs"] == 3, "the configuration given must stay as it is"


def test_set_keeps_further_equals_signs():
    assert apply_sets({}, ["data.source=a=b"]) == {"data": {"source": "a=b"}}


@pytest.mark.parametrize(
    "assignment, message",
    [
        ("train.epochs", "--set takes section.key=value"),
        (".epochs=3", "--set takes section.key=value"),
        ("train.epochs.x=3", "--set cannot look into train.epochs, which is 3"),
    ],
)
def test_bad_sets(assignment, message):
    with pytest.raises(ConfigError, match=message):
        apply_sets(CONFIG, [assignment])


def test_one_source_is_a_whole_configuration():
    config = with_defaults({"data": {"source": "digits"}})
    assert config["data"] == {"source": "digits", "batch_size": 64}
    assert config["optimizer"]["name"] == "adamw" and config["train"]["samples"]["every"] == 10


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"optimiser": {}},
            "Unknown section 'optimiser' in the configuration. Did you mean 'optimizer'. Known: data, network",
        ),
        (
            {"train": {"jit_compile": "maybe"}},
            r"`train.jit_compile` is true, false or .auto.. Received: train.jit_compile='maybe'",
        ),
        (
            {"train": {"epoch": 3}},
            r"Unknown key 'epoch' in \[train\]. Did you mean 'epochs'. Known: epochs, steps_per_execution",
        ),
        ({"train": {"samples": {"step": 3}}}, r"Unknown key 'step' in \[train.samples\]"),
        ({"train": {"samples": 3}}, r"\[train.samples\] is a table"),
        ({"model": 3}, r"\[model\] is a table of options"),
        ({"data": {}}, r"\[data\] needs a `source`"),
        ({"train": {"epochs": 0}}, "`train.epochs` must be an integer ≥ 1. Received: train.epochs=0"),
        ({"train": {"epochs": "ten"}}, "`train.epochs` must be an integer"),
        ({"train": {"samples": {"every": -1}}}, "`train.samples.every` must be an integer ≥ 0"),
        ({"seed": -1}, "`seed` must be an integer ≥ 0"),
    ],
)
def test_mistakes_are_named(change, message):
    with pytest.raises(ConfigError, match=message):
        with_defaults({**CONFIG, **change})


def test_another_name_replaces_the_whole_table():
    under = {"optimizer": {"name": "adamw", "weight_decay": 1e-4}}
    assert merge(under, {"optimizer": {"name": "sgd", "momentum": 0.9}}) == {
        "optimizer": {"name": "sgd", "momentum": 0.9}
    }
    assert merge(under, {"optimizer": {"clipnorm": 1.0}})["optimizer"] == {
        "name": "adamw",
        "weight_decay": 1e-4,
        "clipnorm": 1.0,
    }


def test_differences_name_the_key():
    assert differences({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 5}}) == {"a.c": (2, 5), "d": (3, None)}


def test_did_you_mean_is_silent_where_nothing_is_near():
    assert did_you_mean("epohcs", ["epochs", "seed"]) == " Did you mean 'epochs'?"
    assert did_you_mean("zzz", ["epochs", "seed"]) == ""


@pytest.mark.parametrize(
    "given, ids", [("0,1,2", [0, 1, 2]), ("0-3", [0, 1, 2, 3]), ("7, 1-2", [7, 1, 2]), ([4, 4], [4, 4]), (5, [5])]
)
def test_labels(given, ids):
    assert parse_labels(given) == ids


@pytest.mark.parametrize("given", ["", "a", "3-1", "1,,2", "-1", [1.5]])
def test_bad_labels(given):
    with pytest.raises(ConfigError, match="Labels are class ids such as 0,1,2 or a range such as 0-9"):
        parse_labels(given)
