"""docs/features.md and docs/migrating.md name everything that there is, and nothing that there is not."""

import re
from functools import reduce
from importlib import import_module
from pathlib import Path

import pytest

import keras_diffusion as kd
from keras_diffusion.cli.app import app
from keras_diffusion.guidance.pair import GUIDANCES
from keras_diffusion.guidance.threshold import THRESHOLDS
from keras_diffusion.metrics.feature_metric import FEATURE_METRICS
from keras_diffusion.networks.network import NETWORKS
from keras_diffusion.training.loss_weighting import LOSS_WEIGHTINGS
from keras_diffusion.training.time_distribution import TIME_DISTRIBUTIONS

DOCS = Path(__file__).parent.parent / "docs"
FEATURES = (DOCS / "features.md").read_text(encoding="utf-8")
MIGRATING = (DOCS / "migrating.md").read_text(encoding="utf-8")
TABLES = {
    "Samplers": kd.samplers.SAMPLERS,
    "Noise schedules": kd.schedulers.SCHEDULES,
    "Predictors": kd.predictors.PREDICTORS,
    "Loss weightings": LOSS_WEIGHTINGS,
    "Time distributions": TIME_DISTRIBUTIONS,
    "Spacings": kd.schedulers.SPACINGS,
    "Guidance and inverse problems": GUIDANCES,
    "Networks": NETWORKS,
    "Metrics": FEATURE_METRICS,
}


def rows(page, heading):
    """Cells of the table rows under a heading, up to the next one."""
    text = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", page, re.DOTALL | re.MULTILINE)[1]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for row in cells if "`" in row[0]]


@pytest.mark.parametrize("heading", TABLES)
def test_each_table_names_what_the_room_names(heading):
    listed = [name for row in rows(FEATURES, heading) for name in re.findall(r"`([a-z0-9_]+)`", row[0])]
    own = {name for name in TABLES[heading].names() if "test" not in TABLES[heading]._entries[name][0].__module__}
    assert sorted(listed) == sorted(own)


def test_costs_are_those_of_the_samplers():
    for names, _, evaluations, draws in rows(FEATURES, "Samplers"):
        for name in set(re.findall(r"`([a-z0-9_]+)`", names)) - {"dpm_adaptive", "restart", "repaint"}:
            sampler = kd.samplers.get(name)
            assert int(re.search(r"\d", evaluations)[0]) == sampler.evaluations_per_step, name
            assert str(sampler.noises_per_step) in draws, name


def test_classes_and_thresholds_exist():
    for _, classes, _ in rows(FEATURES, "Networks"):
        assert all(hasattr(kd.networks, name) for name in re.findall(r"`(\w+)`", classes)), classes
    text = FEATURES[FEATURES.index("## Guidance") : FEATURES.index("## Networks")]
    assert {name for name in re.findall(r"`([a-z_]+)`", text)} >= set(THRESHOLDS.names())
    assert all(hasattr(kd.guidance, name) for name in re.findall(r"`([A-Z]\w+)`", text))


def test_callbacks_and_commands_are_named():
    tools = {cells[0]: cells[1] for cells in re.findall(r"^\| ([a-z ]+) \| (.*) \|$", FEATURES, re.MULTILINE)}
    assert set(re.findall(r"`(\w+)`", tools["callbacks"])) == set(kd.callbacks.__all__)
    commands = {command.name or command.callback.__name__.strip("_") for command in app.registered_commands}
    commands |= {group.typer_instance.info.name for group in app.registered_groups}
    named = re.findall(r"`([^`]+)`", tools["command line"])
    assert {name.removeprefix("keras-diffusion ") for name in named} == commands


def test_the_names_to_migrate_to_exist():
    rooms = "|".join([*kd.__all__, "core"])
    sections = MIGRATING[MIGRATING.index("## diffusers") :]
    names = set()
    for line in sections.splitlines():
        if line.startswith("|"):
            names |= set(re.findall(rf"`((?:{rooms})\.[\w.]+)", line.split("|", 2)[2]))
    assert len(names) > 50
    import_module("keras_diffusion.core.gaussian")
    for name in names:
        assert reduce(lambda owner, part: getattr(owner, part, None), name.rstrip(".").split("."), kd), name


def test_the_samplers_to_migrate_to_exist():
    table = MIGRATING[MIGRATING.index("| `samplers.get` |") : MIGRATING.index("Where diffusers computes")]
    quoted = set(re.findall(r'`"(\w+)"`', table))
    assert quoted and quoted <= set(kd.samplers.SAMPLERS.names())
