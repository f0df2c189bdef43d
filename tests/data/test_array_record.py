"""ArrayRecord files, and the records that they usually hold."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from keras_diffusion import data
from keras_diffusion.data.array_record import ArrayRecordSource
from keras_diffusion.data.examples import read_example


def field(number, content):
    """A field of a protocol buffer that holds bytes."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value):
    low, rest = value & 0x7F, value >> 7
    return bytes([low]) if not rest else bytes([low | 0x80]) + varint(rest)


def example(**features):
    """A `tf.train.Example` of bytes, lists of bytes, floats and integers."""
    entries = b""
    for name, value in features.items():
        values = np.atleast_1d(np.array(value, dtype=object if isinstance(value, bytes | list) else None))
        if values.dtype == object and isinstance(values[0], bytes):
            feature = field(1, b"".join(field(1, v) for v in values))
        elif np.asarray(value).dtype.kind == "f":
            feature = field(2, field(1, np.asarray(value, "<f4").tobytes()))
        else:
            feature = field(3, field(1, b"".join(varint(int(v) % 2**64) for v in values)))
        entries += field(1, field(1, name.encode()) + field(2, feature))
    return field(1, entries)


def png(value):
    file = io.BytesIO()
    Image.new("L", (4, 6), value).save(file, "PNG")
    return file.getvalue()


def write(path, records):
    module = pytest.importorskip("array_record.python.array_record_module")
    writer = module.ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()
    return path


def test_examples_are_read():
    read = read_example(example(image=b"\x89PNG", label=300, texts=[b"a", b"b"], sizes=[1, -2], weight=0.5))
    assert read["image"] == b"\x89PNG" and read["label"] == 300 and read["texts"] == [b"a", b"b"]
    assert read["sizes"].tolist() == [1, -2] and read["weight"] == 0.5
    # Numbers that are not packed, as older programs wrote them.
    lone = field(1, field(1, field(1, b"n") + field(2, field(3, b"\x08\x05\x08\x07"))))
    assert read_example(lone)["n"].tolist() == [5, 7]
    assert read_example(b"") == {}
    for broken in (b"\xff", b"\x0a\x7f", example(image=b"x")[:-1], field(1, field(1, field(1, b"\xff")))):
        with pytest.raises(ValueError, match="no tf.train.Example"):
            read_example(broken)


def test_examples_are_those_of_tensorflow():
    """What TensorFlow 2.21 has written: image [b"abc"], label [-5, 2**40], x [0.25, -1.0], and an empty “none”."""
    written = bytes.fromhex(
        "0a4e0a1d0a056c6162656c12141a120a10fbffffffffffffffff018080808080200a110a0178120c120a0a080000803e"
        "000080bf0a100a05696d61676512070a050a036162630a080a046e6f6e651200"
    )
    read = read_example(written)
    assert set(read) == {"image", "label", "x"} and read["image"] == b"abc"
    assert read["label"].tolist() == [-5, 2**40] and read["x"].tolist() == [0.25, -1]


@pytest.mark.slow
def test_records_as_batches(tmp_path):
    for part in range(2):
        numbers = range(5 * part, 5 * part + 5)
        records = [example(image=png(i), label=i % 3, caption=[b"a %d" % i, b"b %d" % i]) for i in numbers]
        write(tmp_path / f"part-{part}.array_record", records)
    for path in (tmp_path, str(tmp_path / "part-{0..1}.array_record")):
        batches = data.load(path, batch_size=5, captions=True, seed=1, channels=1, num_classes=3)
        greys = [int(i) for b in batches for i in np.round((b["images"][:, 0, 0, 0] + 1) * 127.5)]
        assert sorted(greys) == list(range(10)) != greys
        assert [int(label) for b in batches for label in b["labels"]] == [i % 3 for i in greys]
        assert [int(text.split()[1]) for b in batches for text in b["captions"]] == greys


@pytest.mark.slow
def test_records_of_ones_own(tmp_path):
    records = [json.dumps({"pixels": np.full((2, 2), i).tolist(), "says": f"{i}"}).encode() for i in range(4)]
    path = write(tmp_path / "a.array_record", records)
    source = ArrayRecordSource(path, parse=json.loads, image_key="pixels", caption_key="says")
    batches = data.load(source, batch_size=2, shuffle=False, captions=True)
    assert batches[1]["captions"].tolist() == ["2", "3"] and batches.image_shape == (2, 2, 1)
    with pytest.raises(ValueError, match="no tf.train.Example"):
        data.load(path)
    with pytest.raises(ValueError, match="parse makes a dict of a record. Received: 4"):
        ArrayRecordSource(path, parse=lambda record: 4)
    with pytest.raises(ValueError, match="none of image, .* with the columns pixels, says"):
        ArrayRecordSource(path, parse=json.loads)
    (tmp_path / "b.array_record").write_bytes(b"x" * 1000)
    with pytest.raises(ValueError, match="Cannot read .*b.array_record"):
        ArrayRecordSource(tmp_path / "b.array_record")
