import argparse
import collections
import os
import pickle
import zipfile

import numpy as np
import pytest

from keras_diffusion.checkpoints import CheckpointError
from keras_diffusion.containers import open_container

torch = pytest.importorskip("torch")

DTYPES = [
    "float64",
    "float32",
    "float16",
    "bfloat16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "uint16",
    "uint32",
    "bool",
    "complex64",
]


def expected(tensor):
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor).numpy()


@pytest.fixture
def weights():
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(4, 6, generator=generator)
    weights = collections.OrderedDict((f"of.{name}", (base * 3).abs().to(getattr(torch, name))) for name in DTYPES)
    weights |= {
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "transposed": base.T,
        "rows": base[1:3],
        "columns": base[:, 1::2],
        "parameter": torch.nn.Parameter(base),
    }
    return weights


@pytest.mark.parametrize("new", [True, False])
def test_state_dicts_of_both_formats_are_read(weights, tmp_path, new):
    torch.save(weights, tmp_path / "model.pt", _use_new_zipfile_serialization=new)
    with open_container(tmp_path / "model.pt") as container:
        assert list(container.tensors) == list(weights)
        for name, tensor in weights.items():
            assert container.tensors[name] == (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
            np.testing.assert_array_equal(container.read(name), expected(tensor))
            assert container.read(name).shape == tuple(tensor.shape)
        assert container.roots == ("",)
        assert "before 1.6" in container.format or new


def test_nested_dicts_become_roots_and_numbers_metadata(tmp_path):
    layer = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.GroupNorm(1, 3))
    optimizer = {
        "state": {0: {"exp_avg": torch.ones(3)}},
        "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999), "params": [0]}],
    }
    states = {
        "model": layer.state_dict(),
        "ema": layer.state_dict(),
        "opt": optimizer,
        "args": argparse.Namespace(model="DiT-S/2"),
    }
    torch.save({"step": 7, **states}, tmp_path / "last.ckpt")
    with open_container(tmp_path / "last.ckpt") as container:
        assert container.roots == ("model", "ema")
        assert container.metadata == {"step": 7, "args/model": "DiT-S/2"}
        np.testing.assert_array_equal(container.read("ema/0.weight"), expected(layer[0].weight))
        assert "opt/state/0/exp_avg" in container.tensors
        assert [(saved.name, list(saved.weights)) for saved in container.layers("ema")] == [
            ("0", ["weight", "bias"]),
            ("1", ["weight", "bias"]),
        ]


class Call:
    """What pickle makes into "call this function"."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def archive(path, data):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", data)
        file.writestr("archive/version", "3\n")


def programs(marker):
    touch = f"touch {marker}"
    source = f"open({str(marker)!r}, 'w').close()"
    return {
        "os.system": pickle.dumps(Call(os.system, touch), 2),
        "builtins.eval": pickle.dumps(Call(eval, source), 4),
        "builtins.exec": pickle.dumps({"weight": Call(exec, source)}, 3),
        "getattr": pickle.dumps(Call(getattr, str, "format"), 4),
        "nested": pickle.dumps(Call(eval, Call(str, source)), 2),
        "dotted": b"\x80\x04\x8c\x05torch\x8c\x0bos.system.x\x93.",
        "in a key": pickle.dumps({"a": [({"b": Call(os.system, touch)},)]}, 2),
        "protocol 0": b"cos\nsystem\n(S'" + touch.encode() + b"'\ntR.",
        "INST": b"\x80\x02(S'" + touch.encode() + b"'\nios\nsystem\n.",
        "OBJ": b"\x80\x02(cos\nsystem\nX" + len(touch).to_bytes(4, "little") + touch.encode() + b"o.",
        "torch.load": b"\x80\x02ctorch\nload\nX\x01\x00\x00\x00a\x85R.",
        "module as class": b"\x80\x02ctorch.nn.modules.module\nModule\n)\x81.",
    }


@pytest.mark.parametrize("name", programs(""))
@pytest.mark.parametrize("ending", ["pt", "pkl"])
def test_programs_in_pickles_are_refused_and_never_run(name, ending, tmp_path):
    marker = tmp_path / "ran"
    data = programs(marker)[name]
    (archive if ending == "pt" else lambda path, data: path.write_bytes(data))(tmp_path / f"model.{ending}", data)
    if name == "module as class" and ending == "pkl":  # this kind of file holds networks, which become data
        assert not open_container(tmp_path / "model.pkl").tensors
    else:
        with pytest.raises(CheckpointError):
            open_container(tmp_path / f"model.{ending}")
    assert not marker.exists()


def test_a_refusal_says_what_was_asked_for_and_what_helps(tmp_path):
    archive(tmp_path / "model.pt", pickle.dumps(Call(eval, "1"), 2))
    with pytest.raises(CheckpointError, match=r"__builtin__\.eval.*state_dict.*model\.pt.*at byte \d+"):
        open_container(tmp_path / "model.pt")


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02]q\x00h\x00a.",  # a list in itself
        b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",  # a dict in itself
        b"\x80\x02}X\x01\x00\x00\x00a]" + b"(22e" * 200 + b"s.",
        b"\x80\x02" + b"(" * 10_000 + b".",
        b"\x80\x02}X\x01\x00\x00\x00a" + b"]" * 5000 + b"a" * 4999 + b"s.",  # nested deeply
        b"\x80\x02}q\x00]K\x01s.",  # a list as a key
        b"\x80\x02r\xff\xff\xff\xff.",
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x02\x8b\xff\xff\xff\x7f.",
        b"\x80\x02.",
    ],
)
def test_pickles_that_would_exhaust_memory_or_never_end_are_refused(data, tmp_path):
    archive(tmp_path / "model.pt", data)
    with pytest.raises(CheckpointError):
        open_container(tmp_path / "model.pt")


def test_values_that_double_at_every_level_are_refused(tmp_path):
    value = {}
    for _ in range(30):
        value = {"a": value, "b": value}
    archive(tmp_path / "model.pt", pickle.dumps(value, 2))
    with pytest.raises(CheckpointError, match="hold themselves"):
        open_container(tmp_path / "model.pt")


def test_a_tensor_beyond_its_storage_is_refused(tmp_path):
    torch.save({"w": torch.arange(6.0)[2:4]}, tmp_path / "model.pt")
    data = (tmp_path / "model.pt").read_bytes()
    with zipfile.ZipFile(tmp_path / "model.pt") as file:
        pieces = {name: file.read(name) for name in file.namelist()}
    assert pieces["model/data.pkl"].count(b"K\x02K\x02\x85") == 1
    pieces["model/data.pkl"] = pieces["model/data.pkl"].replace(b"K\x02K\x02\x85", b"K\x02K\x05\x85")
    with zipfile.ZipFile(tmp_path / "longer.pt", "w") as file:
        for name, piece in pieces.items():
            file.writestr(name, piece)
    with pytest.raises(CheckpointError, match="longer.pt"):
        open_container(tmp_path / "longer.pt")
    # The numbers have a checksum.
    place = data.index(np.arange(6, dtype="float32").tobytes())
    (tmp_path / "model.pt").write_bytes(data[: place + 8] + b"\x01" + data[place + 9 :])
    with open_container(tmp_path / "model.pt") as container, pytest.raises(CheckpointError, match="checksum"):
        container.read("w")


def test_names_of_callbacks_are_keys_and_nothing_else(tmp_path):
    """PyTorch Lightning once kept the state of its callbacks under their classes, as Stable Diffusion's files still
    show.
    """
    named = b"cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n"
    kept = b"X\x09\x00\x00\x00callbacks}" + named + b"}X\x01\x00\x00\x00aK\x07ss"
    archive(tmp_path / "model.ckpt", b"\x80\x02}(" + kept + b"X\x01\x00\x00\x00nK\x01u.")
    with open_container(tmp_path / "model.ckpt") as container:
        assert container.metadata == {"n": 1}
    archive(tmp_path / "called.ckpt", b"\x80\x02" + named + b")R.")
    with pytest.raises(CheckpointError, match="damaged"):
        open_container(tmp_path / "called.ckpt")


def test_a_whole_module_is_refused_with_a_remedy(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(CheckpointError, match=r"torch\.nn\.modules\.linear\.Linear.*state_dict"):
        open_container(tmp_path / "module.pt")
