"""Tar files in the WebDataset layout give the batches of the folder that they were made of."""

import gzip
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from keras_diffusion import data
from keras_diffusion.data.tar_shards import TarShards, shard_paths


def png(value, mode="RGB"):
    file = io.BytesIO()
    Image.new(mode, (6, 4), value if mode == "L" else (value,) * 3).save(file, "PNG")
    return file.getvalue()


def write(path, members):
    """A tar file of {name: bytes}."""
    with tarfile.open(path, "w") as archive:
        for name, content in members.items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def two_shards(folder):
    """Twelve samples in two files, the same in a folder."""
    (folder / "pictures").mkdir()
    for shard in range(2):
        members = {}
        for i in range(6 * shard, 6 * shard + 6):
            for name, content in ((f"{i:02}.png", png(10 * i)), (f"{i:02}.txt", f"number {i}\nno. {i}".encode())):
                members[f"./train/{name}"] = content
                (folder / "pictures" / name).write_bytes(content)
        write(folder / f"part-{shard:03}.tar", members)
    return folder


@pytest.mark.parametrize("source", ["part-{000..001}.tar", "{tmp}"])
def test_batches_equal_those_of_a_folder(tmp_path, source):
    two_shards(tmp_path)
    shards = tmp_path / "shards"
    shards.mkdir()
    for path in tmp_path.glob("*.tar"):
        path.rename(shards / path.name)
    options = {"batch_size": 3, "captions": True, "seed": 2, "image_size": 4, "validation_fraction": 0.25}
    path = shards if source == "{tmp}" else str(shards / source)
    for split in ("train", "validation"):
        one = data.load(path, split=split, **options)
        other = data.load(tmp_path / "pictures", split=split, **options)
        assert isinstance(one.source.source.source, TarShards) and len(one) == len(other) > 0
        for one.epoch in other.epoch, other.epoch + 1:
            other.epoch = one.epoch
            for i in range(len(one)):
                np.testing.assert_array_equal(one[i]["images"], other[i]["images"])
                assert one[i]["captions"].tolist() == other[i]["captions"].tolist()


def test_json_holds_captions_and_classes(tmp_path):
    members = {}
    for i in range(3):
        members[f"{i}.webp"] = png(i)  # the content decides
        members[f"{i}.json"] = json.dumps({"caption": ["a", f"b{i}"], "label": 2 - i, "width": 6}).encode()
    source = TarShards(write(tmp_path / "a.tar", members), channels=1)
    assert source.texts([2]) == [("a", "b2")] and source.labels.tolist() == [2, 1, 0] and source.num_classes == 3
    assert source[1]["images"].shape == (4, 6, 1) and source[1]["labels"] == 1


def test_class_files(tmp_path):
    members = {name: content for i in range(3) for name, content in ((f"{i}.jpg", png(i)), (f"{i}.cls", b"%d" % i))}
    assert TarShards(write(tmp_path / "a.tar", members)).labels.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="A class is a number from 0. Received: 'x' in .*a.tar: 1"):
        TarShards(write(tmp_path / "a.tar", {**members, "1.cls": b"x"}))


def test_other_members_are_left_alone(tmp_path):
    with tarfile.open(
        write(tmp_path / "a.tar", {"a/0.png": png(1), "a/.DS_Store": b"x", "b/0.png": png(2)}), "a"
    ) as tar:
        for name, kind in (
            ("link.png", tarfile.SYMTYPE),
            ("hard.png", tarfile.LNKTYPE),
            ("folder.png", tarfile.DIRTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    source = TarShards(tmp_path / "a.tar")
    assert source.keys == ["a/0", "b/0"] and source.captions is None
    with pytest.warns(UserWarning, match="1 of 2 samples have no picture"):
        assert len(TarShards(write(tmp_path / "b.tar", {"0.png": png(1), "1.txt": b"x"}))) == 1


def test_what_is_no_shard(tmp_path):
    write(tmp_path / "empty.tar", {})
    write(tmp_path / "twice.tar", [("0.png", png(1)), ("0.png", png(2))])
    (tmp_path / "text.tar").write_bytes(b"text" * 1000)
    (tmp_path / "packed.tar").write_bytes(gzip.compress((tmp_path / "twice.tar").read_bytes()))
    for name, message in [
        ("empty", "Tar shards hold pictures.*Received: none in 1 files"),
        ("twice", "Two members of a sample have one name: 0.png"),
        ("text", "Cannot read .*text.tar"),
        ("packed", "Cannot read .*packed.tar.*Compressed ones have no places"),
        ("missing", "Tar shards must exist. Received: .*missing.tar"),
        ("missing-{0..3}", "and no .*missing-0.tar"),
        ("missing-{0..99999999}", "The number of shards"),
    ]:
        with pytest.raises(ValueError, match=message):
            data.load(str(tmp_path / f"{name}.tar"))


def test_a_shard_that_ends_early_names_the_sample(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype="uint8")
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    path = write(tmp_path / "a.tar", {"0.png": png(1), "1.png": file.getvalue()})
    path.write_bytes(path.read_bytes()[:5000])
    try:
        source = TarShards(path)
    except ValueError as error:
        assert "Cannot read" in str(error) and "Copy a damaged one again" in str(error)
    else:
        with pytest.raises(ValueError, match="The tar file ends within .*a.tar: 1"):
            source[1]


def test_patterns_keep_their_width(tmp_path):
    for name in ("s-08.tar", "s-09.tar", "s-10.tar"):
        write(tmp_path / name, {})
    assert [path.name for path in shard_paths(tmp_path / "s-{08..10}.tar")] == ["s-08.tar", "s-09.tar", "s-10.tar"]
    assert [path.name for path in shard_paths(tmp_path)] == ["s-08.tar", "s-09.tar", "s-10.tar"]
