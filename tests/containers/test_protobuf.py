import pytest

from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.containers.protobuf import Message, varint


def test_fields_of_every_wire_type():
    message = Message(b"\x08\x96\x01" + b"\x11" + bytes([1, 0, 0, 0, 0, 0, 0, 0]) + b"\x1a\x02hi" + b"\x25\x02\0\0\0")
    assert [message.integer(1), message.integer(2), message.text(3), message.integer(4)] == [150, 1, "hi", 2]
    assert message.integer(5) == 0 and message.bytes(6) == b"" and message.messages(7) == []
    assert 3 in message and 5 not in message


def test_repeated_messages():
    outer = Message(b"\x0a\x02\x08\x01" + b"\x0a\x02\x08\x02")
    assert [inner.integer(1) for inner in outer.messages(1)] == [1, 2]


def test_varints():
    assert varint(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 0) == (2**64 - 1, 10)
    with pytest.raises(CheckpointError, match="does not end.*at byte 12"):
        varint(b"\0\0\x80\x80", 2, "x.index", 10)
    with pytest.raises(CheckpointError, match="does not end"):
        varint(b"\xff" * 20, 0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x1a\x05hi", "longer than its message.*at byte 100"),
        (b"\x11\x00", "longer than its message"),
        (b"\x0b", "wire type 3"),
        (b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "longer than its message"),  # no such allocation either
    ],
)
def test_damage(data, message):
    with pytest.raises(CheckpointError, match=message):
        Message(data, "x.index", 100)


def test_fields_of_another_kind():
    message = Message(b"\x08\x01\x12\x01\xff", "x.index")
    for read in (
        lambda: message.bytes(1),
        lambda: message.messages(1),
        lambda: message.integer(2),
        lambda: message.text(2),
    ):
        with pytest.raises(CheckpointError, match="damaged"):
            read()
