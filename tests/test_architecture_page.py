"""docs/architecture.md names files that exist, all rooms on their floors, and the files that data really pass."""

import re
import traceback
from pathlib import Path

import numpy as np
import pytest
from pages import blocks
from test_architecture import FLOORS, PACKAGE

import keras_diffusion as kd

PAGE = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")


def section(heading):
    return PAGE[PAGE.index(f"## {heading}\n") :].split("\n## ")[0]


def paths(text):
    """Files and folders named in a text."""
    return re.findall(r"`((?:keras_diffusion/|tests/)?[a-z_]+(?:/[a-z_]*)*(?:\.py|/))`", text)


def test_the_three_ideas_run(capsys):
    codes = [code for code, _ in blocks(section("Three ideas"), "python")]
    assert len(codes) == 3
    names = {}
    exec(compile("\n".join(codes), "architecture.md", "exec"), names)
    assert np.std(kd.keras.ops.convert_to_numpy(names["samples"])) == pytest.approx(0.5, abs=0.04)
    assert names["plan"]["bend"][0] == 0 and "Prediction" in capsys.readouterr().out


def test_every_path_exists():
    named = paths(PAGE)
    assert len(named) > 40
    for path in named:
        root = PACKAGE.parent if path.startswith(("tests/", "keras_diffusion/")) else PACKAGE
        assert (root / path).exists(), path


def test_every_room_is_on_the_map_with_its_floor():
    floors, floor = {}, None
    for first, rooms, _ in re.findall(r"^\| ([\d., ]*) ?\| (`.*?`) \| (.*) \|$", section("The rooms"), re.MULTILINE):
        floor = first.strip() or floor
        for room in re.findall(r"`([a-z_.]+?)(?:/|\.py)?`", rooms):
            floors[room] = {float(number) for number in floor.split(",")}
    expected = {}
    for room, number in FLOORS.items():
        expected.setdefault(room.split(".")[0], set()).add(float(number))
    assert floors == expected
    assert {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()} <= set(floors)


def files_above(monkeypatch, owner, method, run):
    """Files of the package between the call of `run` and the first call of a method, outermost first."""
    original, found = getattr(owner, method), []

    def spy(self, *args, **kwargs):
        if not found:
            names = [Path(frame.filename) for frame in traceback.extract_stack()]
            found.extend(dict.fromkeys(str(p.relative_to(PACKAGE)) for p in names if p.is_relative_to(PACKAGE)))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(owner, method, spy)
    run()
    return found


@pytest.fixture
def model():
    model = kd.DiffusionModel(kd.networks.MLP((2,), width=4, depth=1, num_classes=2), seed=0)
    model.compile("adam")
    return model


def test_the_walk_through_fit(model, monkeypatch):
    data = {"images": np.zeros((8, 2), "float32"), "labels": np.zeros(8, "int32")}
    found = files_above(monkeypatch, kd.DiffusionModel, "outputs_at", lambda: model.fit(data, verbose=0))
    assert found and set(found) <= set(paths(section("A batch through `fit`")))


def test_the_walk_through_generate_passes_few_files(model, monkeypatch):
    sampler = kd.samplers.get("dpmpp_2m")
    owner = next(cls for cls in type(sampler).__mro__ if "step" in vars(cls))
    options = {"sampler": sampler, "num_steps": 3, "guidance_scale": 2.0, "verbose": 0}
    found = files_above(monkeypatch, owner, "step", lambda: model.generate(2, {"labels": 1}, **options))
    described = paths(section("Noise through `generate`").split("\n\n")[1])
    assert described == [*found, "/".join(owner.__module__.split(".")[1:]) + ".py"]
    assert len(found) <= 8
