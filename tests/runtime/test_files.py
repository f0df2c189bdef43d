import os

import pytest

from keras_diffusion.runtime.files import atomic_folder, unused_path, write_json, write_whole


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "a" / "b.bin"
    assert write_whole(path, b"1") == path
    write_whole(path, b"22")
    assert path.read_bytes() == b"22"
    assert os.listdir(path.parent) == ["b.bin"]


def test_failure_leaves_the_old_file_and_no_temporary_one(tmp_path, monkeypatch):
    path = write_whole(tmp_path / "b.bin", b"old")

    def fail(*_):
        raise OSError("disk")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["b.bin"]


def test_unused_paths_are_numbered_before_the_ending(tmp_path):
    assert unused_path(tmp_path / "v1.5", ".png") == tmp_path / "v1.5.png"
    for name in ("v1.5.png", "v1.5-2.png"):
        (tmp_path / name).touch()
    assert unused_path(tmp_path / "v1.5", ".png") == tmp_path / "v1.5-3.png"
    (tmp_path / "v1.5").mkdir()
    assert unused_path(tmp_path / "v1.5") == tmp_path / "v1.5-2"


def test_json_is_written_whole(tmp_path):
    path = write_json(tmp_path / "a.json", {"σ": 1})
    with pytest.raises(TypeError):
        write_json(path, {"σ": object()})
    assert path.read_text(encoding="utf-8") == '{\n  "σ": 1\n}\n' and os.listdir(tmp_path) == ["a.json"]


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "sub" / "a"
    with atomic_folder(path) as folder:
        (folder / "one").write_text("1")
    path.with_name("b").write_text("a file")
    for target in (path, path.with_name("b")):
        with pytest.raises(KeyError), atomic_folder(target) as folder:
            (folder / "two").write_text("2")
            raise KeyError
    assert sorted(p.name for p in path.parent.iterdir()) == ["a", "b"] and (path / "one").exists()
    for target in (path, path.with_name("b")):
        with atomic_folder(target) as folder:
            (folder / "two").write_text("2")
        assert [p.name for p in target.iterdir()] == ["two"]
