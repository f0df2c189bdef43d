"""Rows of Parquet files as samples."""

import io
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from keras_diffusion import data
from keras_diffusion.data import parquet as module
from keras_diffusion.data.parquet import ParquetSource

pytestmark = pytest.mark.slow
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def png(value):
    file = io.BytesIO()
    Image.new("L", (4, 6), value).save(file, "PNG")
    return file.getvalue()


def write(path, numbers, group=3, metadata=None, **columns):
    """Grey pictures whose value is their number, in row groups of `group`."""
    rows = {"image": [png(i) for i in numbers], "text": [f"no. {i}" for i in numbers], "other": list(numbers)}
    table = pa.table({**rows, **columns})
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=group)
    return path


def greys(batches):
    return [int(i) for b in batches for i in np.round((b["images"][:, 0, 0, 0] + 1) * 127.5)]


@pytest.mark.parametrize("name", ["*.parquet", "part-{0..1}.parquet", ""])
def test_rows_of_all_files(tmp_path, name):
    for part in range(2):
        write(tmp_path / f"part-{part}.parquet", range(8 * part, 8 * part + 8))
    batches = data.load(str(tmp_path / name), batch_size=4, captions=True, seed=1)
    read = list(batches)
    assert sorted(greys(read)) == list(range(16)) != greys(read)
    assert [text for b in read for text in b["captions"]] == [f"no. {i}" for i in greys(read)]
    assert set(read[0]) == {"images", "captions"} and batches.source.captions[9] == "no. 9"
    held_out = data.load(str(tmp_path / name), batch_size=4, split="test", validation_fraction=0.25)
    assert len(held_out.source) == 4 and held_out.source.size_of(0) == (6, 4)


def test_each_batch_reads_a_row_group_once_even_if_memory_holds_one(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_KEPT", 1)
    batches = data.load(write(tmp_path / "a.parquet", range(12)), batch_size=12, image_size=4, seed=1)
    read, unpacked = [], ParquetSource._unpacked
    monkeypatch.setattr(ParquetSource, "_unpacked", lambda self, i, names: read.append(i) or unpacked(self, i, names))
    assert sorted(greys([batches[0]])) == list(range(12))
    assert read == [0, 1, 2, 3]


def test_structs_lists_and_classes(tmp_path):
    images = [{"bytes": png(i), "path": f"{i}.png"} for i in range(4)]
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    description = {"huggingface": json.dumps({"info": {"features": features}})}
    path = write(tmp_path / "a.parquet", range(4), image=images, label=[0, 1, 1, 0], metadata=description)
    batches = data.load(path, batch_size=4, shuffle=False, channels=1)
    assert (batches.class_names, batches[0]["labels"].tolist()) == (["cat", "dog"], [0, 1, 1, 0])
    assert greys(batches) == [0, 1, 2, 3] and batches.image_shape == (6, 4, 1)
    arrays = np.arange(24).reshape(2, 3, 4)
    path = write(tmp_path / "b.parquet", range(2), image=arrays.tolist(), text=[["a", "b"], None])
    source = pickle.loads(pickle.dumps(ParquetSource(path)))
    assert source.texts([0, 1]) == [("a", "b"), ("",)] and source[1]["images"].tolist() == arrays[1, ..., None].tolist()


def test_paths_in_a_table_are_not_opened(tmp_path):
    (tmp_path / "secret.png").write_bytes(png(7))
    image = [{"bytes": None, "path": str(tmp_path / "secret.png")}]
    source = ParquetSource(write(tmp_path / "a.parquet", range(1), image=image))
    with pytest.raises(
        ValueError, match="paths in a table are not opened. Received: .*a.parquet: row 0 of row group 0"
    ):
        source[0]
    named = ParquetSource(write(tmp_path / "b.parquet", range(1), image=[str(tmp_path / "secret.png")]))
    with pytest.raises(ValueError):
        data.Batches(named, 1)[0]


def test_broken_pictures_and_files(tmp_path):
    path = write(tmp_path / "a.parquet", range(6), image=[png(i) if i != 4 else b"x" for i in range(6)])
    with pytest.raises(ValueError, match="Cannot read the image '.*a.parquet: row 1 of row group 1'"):
        data.load(path, batch_size=6)[0]
    with pytest.warns(UserWarning, match="left out"):
        batches = data.load(path, batch_size=6, shuffle=False, on_error="skip", captions=True)
        assert greys(batches) == [0, 1, 2, 3, 5, 5] and batches[0]["captions"][4] == "no. 5"
    content = bytearray(path.read_bytes())
    content[100:400] = bytes(300)
    (tmp_path / "b.parquet").write_bytes(content)
    source = ParquetSource(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="Cannot read row group 0 of .*b.parquet"):
        source[0]
    (tmp_path / "c.parquet").write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match="Cannot read .*c.parquet' as Parquet.* Copy it again"):
        data.load(tmp_path / "c.parquet")
    with pytest.raises(ValueError, match=r"Files .parquet must exist. Received: .*none"):
        data.load(str(tmp_path / "none-*.parquet"))
    write(tmp_path / "d.parquet", range(2), group=2)
    pq.write_table(pa.table({"image": [png(0)]}), tmp_path / "e.parquet")
    with pytest.raises(ValueError, match="Files of one table have the same columns"):
        data.load([str(tmp_path / f"{name}.parquet") for name in "de"], batch_size=3, captions=True)[0]


def test_a_row_group_that_unpacks_to_far_more_than_its_file(tmp_path):
    """Parquet stores a value that repeats once, so that a small file can ask for any amount of memory."""
    table = pa.table({"image": [bytes(1_000_000)] * 80})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
    assert (tmp_path / "a.parquet").stat().st_size < 20_000
    with pytest.raises(ValueError, match="The size of row group 0 of .* is above the limit packed_bytes"):
        ParquetSource(tmp_path / "a.parquet")[0]
