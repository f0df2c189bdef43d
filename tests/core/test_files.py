import os

import pytest

from keras_diffusion.core.files import write_whole


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
