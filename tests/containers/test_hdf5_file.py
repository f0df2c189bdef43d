import h5py
import numpy as np
import pytest

from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.containers.hdf5_file import HDF5File
from keras_diffusion.containers.source_file import SourceFile


def opened(path):
    return HDF5File(SourceFile(path))


@pytest.mark.parametrize(
    "dtype",
    ["float16", "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool"],
)
def test_dtypes_and_shapes(tmp_path, dtype):
    arrays = {
        "scalar": np.array(1, dtype),
        "vector": np.array([0, 1, 1], dtype),
        "deep/er/cube": np.arange(24).reshape(2, 3, 4).astype(dtype),
        "none": np.zeros((0, 3), dtype),
    }
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    file = opened(tmp_path / "a.h5")
    assert sorted(file.tensors) == sorted(arrays) and set(file.groups) == {"", "deep", "deep/er"}
    for name, array in arrays.items():
        read = file.read(name)
        assert read.dtype == array.dtype and file.tensors[name] == (array.shape, dtype)
        np.testing.assert_array_equal(read, array)


def test_large_groups_and_headers(tmp_path):
    """Trees of more than one level, headers that go on elsewhere, heaps of more than one block."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for index in range(700):
            file[f"many/{index}"] = np.full(2, index, "float32")
        for index in range(40):
            file["many"].attrs[f"attribute{index}"] = f"text {index}" * 50
    file = opened(tmp_path / "a.h5")
    assert len(file.tensors) == 700
    assert all((file.read(f"many/{index}") == index).all() for index in (0, 1, 350, 699))
    assert file.text("attribute39", "many") == "text 39" * 50


def test_texts(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["variable"] = "größe"
        file.attrs["fixed"] = np.bytes_(b"abc")
        file.attrs["fixed list"] = np.array([b"a", b"bcd"])
        file.attrs["variable list"] = ["x", "yz"]
        file.attrs["empty list"] = np.zeros(0)
        file.attrs["cut0"], file.attrs["cut1"] = np.array([b"p", b"q"]), np.array([b"r"])
    file = opened(tmp_path / "a.h5")
    assert (file.text("variable"), file.text("fixed"), file.text("missing")) == ("größe", "abc", None)
    assert file.names("fixed list") == ["a", "bcd"] and file.names("variable list") == ["x", "yz"]
    assert file.names("empty list") == [] and file.names("cut") == ["p", "q", "r"] and file.names("missing") is None


def external_link(file):
    file["b"] = h5py.ExternalLink("other.h5", "/a")


def soft_link(file):
    file["b"] = h5py.SoftLink("/a")


def external_data(file):
    file.create_dataset("b", (4,), "float32", external=[("/etc/hostname", 0, 16)])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (external_link, "links in object headers"),
        (soft_link, "is a link"),
        (external_data, "data in other files"),
        (
            lambda file: file.create_dataset("b", data=np.zeros(100), compression="gzip"),
            "compressed or in pieces.*h5repack",
        ),
        (lambda file: file.create_dataset("b", data=np.zeros(4, ">f4")), "a type that Keras does not write"),
        (lambda file: file.create_dataset("b", data="text"), "a type that Keras does not write"),
        (lambda file: file.__setitem__("b", file["a"]), "overlap"),
    ],
)
def test_what_keras_does_not_write_is_refused(tmp_path, write, message):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.zeros(3, "float32")
        write(file)
    with pytest.raises(CheckpointError, match=message):
        opened(tmp_path / "a.h5")


def test_newer_versions_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        file["a"] = np.zeros(3)
    with pytest.raises(CheckpointError, match="h5repack"):
        opened(tmp_path / "a.h5")


def test_cut_files_say_how_long_they_should_be(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.zeros(3000)
    content = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(content[:-5])
    with pytest.raises(CheckpointError, match=f"should have {len(content)} bytes"):
        opened(tmp_path / "a.h5")


def test_bytes_without_an_owner(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"], file["b"] = np.ones(3), np.ones(4)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["a"]
    with pytest.raises(CheckpointError, match="belong to nothing.*h5repack"):
        opened(tmp_path / "a.h5")
