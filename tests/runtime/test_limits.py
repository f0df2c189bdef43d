import json
import re
import threading
from pathlib import Path

import pytest

from keras_diffusion.configs.checks import clip, shown
from keras_diffusion.runtime import limits
from keras_diffusion.runtime.documents import parse_json, parse_toml, parse_yaml
from keras_diffusion.runtime.files import read_bytes, read_json


class Refused(Exception):
    pass


def test_limits_are_raised_for_a_block_and_by_the_environment(monkeypatch):
    before = limits.current()
    with limits.raised(steps=7, text_depth=3) as inside:
        assert inside is limits.current()
        assert (inside.steps, inside.text_depth, inside.samples) == (7, 3, before.samples)
        with limits.raised(steps=8):
            assert (limits.current().steps, limits.current().text_depth) == (8, 3)
        assert limits.check(7, "steps", "The number") == 7
        with pytest.raises(
            Refused,
            match=r"The number is above the limit steps=7. Received: 8.*raised\(steps=…\).*KERAS_DIFFUSION_LIMITS",
        ):
            limits.check(8, "steps", "The number", Refused)
    assert limits.current() == before
    monkeypatch.setenv(limits.ENVIRONMENT, "steps=12, samples=3")
    assert (limits.current().steps, limits.current().samples) == (12, 3)


@pytest.mark.parametrize("values", [{"step": 3}, {"steps": 0}, {"steps": True}, {"steps": 1e3}, {"steps": "9"}])
def test_raised_takes_known_names_and_positive_integers(values):
    with pytest.raises(ValueError, match=r"Known: text_bytes|positive integer"), limits.raised(**values):
        pass


def test_a_wrong_environment_variable_says_so(monkeypatch):
    for text in ("steps", "steps=x", "stepps=3", "steps=-1", "steps=1e9"):
        monkeypatch.setenv(limits.ENVIRONMENT, text)
        with pytest.raises(ValueError, match="limit"):
            limits.current()


def test_shown_is_short_for_everything():
    double, own = [1], []
    for _ in range(200):
        double = [double, double]
    own.append(own)
    for value in (
        double,
        own,
        10**5000,
        -(10**5000),
        "x" * 10**6,
        {str(i): [i] * 50 for i in range(1000)},
        b"x" * 10**6,
    ):
        assert len(shown(value)) <= 700
    assert clip("x" * 30) == "x" * 30
    assert len(clip("x" * 10**6)) <= 1000


BAD_JSON = {
    "depth": "[" * 200_000,
    "closed depth": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "values": "[" + "{}," * 1_000_000 + "{}]",
    "twice": '{"a": 1, "a": 2}',
    "digits": '{"a": ' + "9" * 5000 + "}",
    "long": '{"a": 1' + "0" * 30 + "}",
    "kind": "[1]",
    "cut": '{"a": ',
    "no end": '"' + '\\"' * 100_000,
    "bytes": b"\xff\xfe{",
    "surrogate": '{"\ud800": 1',
    "empty": "",
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_bad_json_is_refused_with_the_error_that_was_asked_for(case, tmp_path):
    with pytest.raises(Refused) as caught:
        parse_json(BAD_JSON[case], "text of a test", Refused)
    assert "text of a test" in str(caught.value)
    assert len(str(caught.value)) < 1100
    file = tmp_path / "a.json"
    file.write_bytes(
        BAD_JSON[case] if isinstance(BAD_JSON[case], bytes) else BAD_JSON[case].encode("utf-8", "surrogatepass")
    )
    with pytest.raises(Refused, match=r"a\.json"):
        read_json(file, Refused)


def test_good_json_is_read_as_it_is():
    value = {"[": '"\\{[', "list": [[1, -2.5], [True, None]], "big": 2**64 - 1, "ü": "\\"}
    assert parse_json(json.dumps(value)) == value
    assert parse_json(b"\xef\xbb\xbf{}") == {}
    assert parse_json("[1]", kind=list) == parse_json("[1]", kind=object) == [1]
    deep = "[" * 150 + "]" * 150
    with limits.raised(text_depth=150):
        assert parse_json(deep, kind=list)


def test_read_bytes_takes_files_within_the_limit(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"1234")
    with limits.raised(text_bytes=4):
        assert read_bytes(file) == b"1234"
    with limits.raised(text_bytes=3), pytest.raises(Refused, match="text_bytes=3. Received: 4"):
        read_bytes(file, Refused)
    for other in (tmp_path, "/dev/zero"):
        with pytest.raises(Refused, match="a folder or a device"):
            read_json(other, Refused)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "nothing")


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 20_000,
        "a" + ".a" * 100_000 + " = 1",
        "a = '''" + "x" * (1 << 18) + "'''",
        "a = 1\na = 2",
        "a = \"'" + "[" * 50_000,
    ],
    ids=["lists", "keys", "length", "twice", "quotes"],
)
def test_bad_toml_is_refused(text):
    with pytest.raises(Refused, match="the text of a test|The text of a test"):
        parse_toml(text, "text of a test", Refused)


def _laughs(levels=9, width=9, merge=False):
    lines = ["a0: &a0 {k: 1}" if merge else "a0: &a0 [x, x, x]"]
    for i in range(levels):
        several = ", ".join([f"*a{i}"] * width)
        lines.append(f"a{i + 1}: &a{i + 1} " + (f"{{<<: [{several}]}}" if merge else f"[{several}]"))
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        _laughs(),
        _laughs(merge=True),
        _laughs(2000, 1),
        "a: &a [*a]",
        "[" * 60_000,
        "- " * 30_000,
        "? " * 30_000,
        "a: {" * 5000,
        "{a: 1",
        "[a]: 1\n",
        "a: !!python/object/apply:os.system [ls]",
        "a: !!int " + "9" * 5000,
        "# " + "x" * (1 << 16),
    ],
    ids=[
        "laughs",
        "merges",
        "chain",
        "own",
        "lists",
        "items",
        "keys",
        "maps",
        "cut",
        "key",
        "python",
        "digits",
        "length",
    ],
)
def test_bad_yaml_is_refused(text):
    pytest.importorskip("yaml")
    with pytest.raises(Refused, match="text of a test"):
        parse_yaml(text, "text of a test", Refused)


def test_yaml_with_a_reference_is_read():
    pytest.importorskip("yaml")
    assert parse_yaml("a: &x {k: 1}\nb: {<<: *x, l: 2}") == {"a": {"k": 1}, "b": {"k": 1, "l": 2}}
    assert parse_yaml("") is None


def test_a_block_of_raised_limits_is_its_threads_own():
    seen = []
    with limits.raised(steps=3):
        thread = threading.Thread(target=lambda: seen.append(limits.current().steps))
        thread.start()
        thread.join()
    assert seen == [limits.Limits().steps]


def test_the_documentation_lists_every_limit_with_its_default():
    text = (Path(__file__).parents[2] / "docs" / "legacy.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in text.splitlines() if line.startswith("| `")]
    told = {
        name: int(value)
        for names, values in rows
        for name, value in zip(re.findall(r"`(\w+)`", names), re.findall(r"\d+", values))
    }
    assert {name: told.get(name) for name in limits.NAMES} == {
        name: getattr(limits.Limits(), name) for name in limits.NAMES
    }
