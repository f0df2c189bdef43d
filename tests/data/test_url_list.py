"""Lists of addresses, on a server that answers slowly, wrongly, or not at all."""

import http.server
import io
import json
import pickle
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from PIL import Image

from keras_diffusion import data
from keras_diffusion.cli.building import resolve
from keras_diffusion.data.web_cache import WebCache
from keras_diffusion.data.web_file import NotFetched, fetch


def picture(value):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 0, 0)).save(file, "PNG")
    return file.getvalue()


class Answers(http.server.BaseHTTPRequestHandler):
    """/7.png is a picture of the value 7; other paths are what may go wrong."""

    def do_GET(self):
        state, name = self.server.state, self.path.strip("/").partition("?")[0]
        with state["lock"]:
            state["asked"].append(self.path)
            count = state["asked"].count(self.path)
            state["now"] += 1
            state["most"] = max(state["most"], state["now"])
        time.sleep(state["delay"])
        with state["lock"]:
            state["now"] -= 1
        if name in state["down"] or (name == "flaky" and count < 3):
            return self.answer(503, b"", **{"Retry-After": "0"})
        answers = {
            "flaky": (200, picture(9)),
            "page": (200, b"<html>Not here any more</html>"),
            "large": (200, bytes(50_000)),
            "endless": (200, bytes(50_000), {"Content-Length": None}),
            "short": (200, picture(1)[:50], {"Content-Length": "5000"}),
            "loop": (302, b"", {"Location": "/loop"}),
            "moved": (302, b"", {"Location": "/5.png"}),
            "to-file": (302, b"", {"Location": "file:///etc/passwd"}),
            "to-ftp": (302, b"", {"Location": "ftp://localhost/1.png"}),
            "no-ai": (200, picture(1), {"X-Robots-Tag": "otherbot: noindex, noai"}),
        }
        if name.endswith(".png"):
            return self.answer(200, picture(int(name[:-4])))
        if name.startswith("slow"):
            return self.drip(begin=b"HTTP/1.0 200 OK\r\n" + (b"\r\n" if name == "slow" else b""))
        code, body, headers = (*answers.get(name, (404, b"")), {})[:3]
        self.answer(code, body, **headers)

    def answer(self, code, body, **headers):
        self.send_response(code)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            if value is not None:
                self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def drip(self, begin):
        """Sends a byte now and then, sooner than any time-out of single parts."""
        try:
            self.wfile.write(begin)
            for _ in range(60):
                self.wfile.write(b"x")
                time.sleep(0.05)
        except OSError:
            pass

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    server.state = {"lock": threading.Lock(), "asked": [], "now": 0, "most": 0, "down": set(), "delay": 0.0}
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


QUICK = {"timeout": 5, "retries": 2, "backoff": 0.01, "most_bytes": 20_000}


def test_what_a_server_may_do_wrong(server):
    for name, message in {
        "missing": "the server answers 404",
        "large": "larger than 20,000 bytes",
        "endless": "larger than 20,000 bytes",
        "short": "cut short: 50 of 5,000 bytes",
        "slow": "too slow",
        "slow-header": "too slow",
        "loop": "the server answers 302",
        "to-file": "the server answers 302 Found - Redirection to url 'file:///etc/passwd' is not allowed",
        "to-ftp": "only http and https are fetched, not 'ftp://localhost/1.png'",
        "no-ai": "asks not to train models on it",
    }.items():
        with pytest.raises(NotFetched, match=message):
            fetch(f"{server.url}/{name}", **{**QUICK, "timeout": 0.5 if "slow" in name else 5})
    asked = server.state["asked"]
    assert asked.count("/missing") == 1 and asked.count("/large") == 1, "what will not change is not asked again"
    assert [asked.count(name) for name in ("/short", "/slow", "/slow-header")] == [3, 3, 3]
    assert fetch(f"{server.url}/flaky", **QUICK) == picture(9), "the third try succeeds"
    assert fetch(f"{server.url}/moved", **QUICK) == picture(5)
    assert fetch(f"{server.url}/5.png?q=ä b", **QUICK) == picture(5)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://localhost/a", "data:,x", "/etc/passwd", "", "http://[x"])
def test_other_addresses_are_not_opened(url):
    with pytest.raises(NotFetched):
        fetch(url, **QUICK)


def write_list(path, server, names):
    rows = [{"url": f"{server.url}/{name}", "text": f"caption of {name}"} for name in names]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


NAMES = ["0.png", "1.png", "missing", "3.png", "page", "5.png", "short", "7.png"]


def values(batch):
    return np.round((batch["images"][:, 0, 0, 0] + 1) * 127.5).astype(int).tolist()


def test_failures_are_skipped_listed_and_remembered(tmp_path, server):
    options = {
        "batch_size": 8,
        "shuffle": False,
        "captions": True,
        "on_error": "skip",
        "cache": tmp_path / "cache",
        "fetch": QUICK,
    }
    path = write_list(tmp_path / "list.jsonl", server, NAMES)
    batches = data.load(path, **options)
    assert server.state["asked"] == ["/0.png"], "no more than the first before it is needed"
    with pytest.warns(UserWarning, match="left out: Cannot fetch http.*404"):
        batch = batches[0]
    assert values(batch) == [0, 1, 3, 3, 5, 5, 7, 7], "whole pictures, the next in the place of each that fails"
    assert batch["captions"].tolist()[2] == "caption of 3.png"
    skipped = batches.source.skipped
    assert {NAMES[i] for i in skipped} == {"missing", "page", "short"}
    assert "cannot be read as a picture" in skipped[4]

    before = len(server.state["asked"])
    server.state["down"] = {"0.png", "1.png"}
    with pytest.warns(UserWarning, match="noted in"):
        again = data.load(path, **options)[0]
    assert values(again) == values(batch) and len(server.state["asked"]) == before, "all from the folder"


def test_batches_are_those_of_a_folder(tmp_path, server):
    (tmp_path / "folder").mkdir()
    for i in range(8):
        (tmp_path / "folder" / f"{i}.png").write_bytes(picture(i))
    options = {"batch_size": 4, "seed": 5, "horizontal_flip": True}
    folder = data.load(tmp_path / "folder", **options)
    web = data.load([f"{server.url}/{i}.png" for i in range(8)], cache=tmp_path / "c", workers=2, **options)
    for folder.epoch in range(2):
        web.epoch = folder.epoch
        for mine, others in zip(web, folder, strict=True):
            np.testing.assert_array_equal(mine["images"], others["images"])


def test_a_run_goes_on_exactly_with_what_has_failed(tmp_path, server):
    path = write_list(tmp_path / "list.jsonl", server, NAMES * 2)
    options = {"batch_size": 4, "seed": 5, "on_error": "skip", "cache": tmp_path / "c", "fetch": QUICK}
    first = data.load(path, **options)
    with pytest.warns(UserWarning, match="left out"):
        for first.epoch in range(2):
            whole = [values(first[i]) for i in range(4)]
    server.state["down"] = set(NAMES)
    again = data.load(path, **options)
    again.epoch, again.rows = 1, np.array([3, 0, 1, 2])
    again.start = 2
    with pytest.warns(UserWarning, match="noted in"):
        continued = [values(again[i]) for i in (2, 3)]
    assert continued == [[batch[i] for i in again.rows] for batch in whole[2:]]


def test_the_commands(tmp_path, server, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_list(tmp_path / "list.jsonl", server, ["0.png", "missing", "2.png", "3.png"])
    result = run("data", "inspect", path, "--cache", tmp_path / "c", "--all-broken")
    assert result.exit_code == 0, result.output
    assert "readable   3 of 4" in result.stdout and "/missing: Cannot fetch" in result.stdout.replace("\n", "")
    config = {
        "data": {"source": str(path), "cache": "kept", "on_error": "skip", "batch_size": 2, "fetch": {"retries": 0}}
    }
    with pytest.warns(UserWarning, match="left out"):
        resolved, train, _ = resolve(config)
        assert values(train[0]) and values(train[1])
    assert list(train.source.source.skipped) == [1]
    assert resolved["data"]["cache"] == str(Path("kept").resolve()), "a run resumes from any folder"


def test_the_first_failure_is_named(tmp_path, server):
    path = write_list(tmp_path / "list.jsonl", server, NAMES)
    batches = data.load(path, batch_size=8, shuffle=False, cache=tmp_path / "c", fetch=QUICK)
    with pytest.raises(ValueError, match=r"Cannot fetch .*/missing: the server answers 404.*Take it off the list"):
        batches[0]
    assert not (tmp_path / "c" / "failed").exists(), "a server may be mended before the next run"


def test_a_batch_is_fetched_at_once_but_within_bounds(tmp_path, server):
    server.state["delay"] = 0.1
    rows = [(f"{server.url}/{i % 12}.png", f"number {i}") for i in range(24)]
    batches = data.load(rows, batch_size=24, cache=tmp_path, fetch={**QUICK, "connections": 4}, seed=3)
    first = batches[0]
    assert server.state["most"] == 4 and len(server.state["asked"]) == 12, "no address is asked twice"
    sizes = data.load(rows, batch_size=24, cache=tmp_path, image_size=8, buckets=True)
    assert sizes.bucket_counts == {(8, 8): 24}
    again = data.load(rows, batch_size=24, cache=tmp_path, seed=3)
    again.source = pickle.loads(pickle.dumps(again.source))  # as worker processes get it
    np.testing.assert_array_equal(again[0]["images"], first["images"])
    assert len(server.state["asked"]) == 12


def test_a_full_folder_keeps_what_it_has(tmp_path):
    cache = WebCache(tmp_path, most_bytes=10)
    cache.write("a", b"123456")
    with pytest.warns(UserWarning, match="is full, with 10 bytes"):
        cache.write("b", b"123456")
    cache.write("c", b"1234")
    assert cache.read("a") == b"123456" and cache.read("b") is None
    assert not [file for file in tmp_path.rglob("*") if file.name.startswith(".")]


def test_a_network_that_is_down_is_no_fault_of_the_pictures(tmp_path):
    rows = [f"http://127.0.0.1:9/{i}.png" for i in range(64)]  # nobody listens there
    batches = data.load(
        rows, batch_size=4, cache=tmp_path, on_error="skip", fetch={"retries": 0, "timeout": 1, "connections": 2}
    )
    with pytest.warns(UserWarning), pytest.raises(RuntimeError, match="No server has answered for 3. addresses"):
        batches[0]
    assert not list(tmp_path.glob("failed/*/*.json")), "they are tried again next time"


def test_a_table_with_capitals_and_several_captions(tmp_path):
    (tmp_path / "a.csv").write_text("URL,TEXT\nhttp://localhost/1,x\nhttp://localhost/2,\n")
    source = data.load(tmp_path / "a.csv", batch_size=2, cache=tmp_path).source
    assert source.captions == ["x", ""]
    rows = [{"url": "http://localhost/1", "captions": ["x", "y"]}]
    assert data.UrlList(rows, tmp_path).texts([0]) == [("x", "y")]
    assert data.UrlList(["http://localhost/1"], tmp_path).captions is None


def test_wrong_arguments(tmp_path):
    rows = ["http://localhost/1"]
    for options, message in [
        ({}, "kept in a folder.*Received: cache=None"),
        ({"cache": tmp_path, "fetch": {"time_out": 3}}, "has no option 'time_out'.*Did you mean 'timeout'"),
        ({"cache": tmp_path, "fetch": {"retries": -1}}, "`retries`"),
        ({"cache": tmp_path, "fetch": 3}, "`fetch` is a dict"),
    ]:
        with pytest.raises(ValueError, match=message):
            data.load(rows, batch_size=1, **options)
    with pytest.raises(ValueError, match="cache= is for lists of web addresses"):
        data.load("digits", cache=tmp_path)
    with pytest.raises(ValueError, match="A row of a list of addresses has “url”.*in row 1"):
        data.UrlList([*rows, {"link": "x"}], tmp_path)
    with pytest.raises(ValueError, match="which is no file"):
        data.load(tmp_path / "none.csv", cache=tmp_path)
