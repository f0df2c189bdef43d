import pickle
import sys
import types

import numpy as np
import pytest

from keras_diffusion.checkpoints import CheckpointError
from keras_diffusion.containers import open_container

torch = pytest.importorskip("torch")


class EasyDict(dict):
    """Stands for dnnlib.util.EasyDict."""


def _reconstruct_persistent_obj(meta):
    raise AssertionError("the source in the file was about to be run")


@pytest.fixture(autouse=True)
def modules(monkeypatch):
    """The modules whose names EDM's pickles hold."""
    for module, value in (("torch_utils.persistence", _reconstruct_persistent_obj), ("dnnlib.util", EasyDict)):
        stand_in = types.ModuleType(module)
        setattr(stand_in, value.__name__, value)
        monkeypatch.setitem(sys.modules, module.split(".")[0], types.ModuleType(module.split(".")[0]))
        monkeypatch.setitem(sys.modules, module, stand_in)
        monkeypatch.setattr(value, "__module__", module)


class Persistent:
    """Pickled the way in which torch_utils.persistence does it."""

    def __reduce__(self):
        state = self.__dict__
        meta = {
            "type": "class",
            "version": 6,
            "module_src": "raise SystemExit",
            "class_name": type(self).__name__,
            "state": state,
        }
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,), None


class Linear(Persistent, torch.nn.Module):
    def __init__(self, size):
        super().__init__()
        self._init_args, self._init_kwargs = (size,), {}
        self.weight = torch.nn.Parameter(torch.randn(size, size))
        self.bias = None
        self.register_buffer("filter", torch.ones(1, 1, 2, 2))
        self.register_buffer("scratch", torch.zeros(3), persistent=False)


class SongUNet(Persistent, torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.map_layer0 = Linear(4)
        self.enc = torch.nn.ModuleDict({"64x64_conv": Linear(3), "64x64_aux": torch.nn.Conv2d(2, 2, 1)})


class EDMPrecond(Persistent, torch.nn.Module):
    def __init__(self, **kwargs):
        super().__init__()
        self._init_args, self._init_kwargs = (), EasyDict(kwargs)
        self.sigma_data = 0.5
        self.model = SongUNet()


class StabilityVAEEncoder(Persistent):
    def __init__(self):
        self._init_kwargs = EasyDict(vae_name="sd")
        self.scale, self.shift = np.float32([0.5, 0.25]), np.asfortranarray(np.arange(6.0).reshape(2, 3))


class EDMLoss(Persistent):
    def __init__(self):
        self._init_kwargs = EasyDict(P_mean=-1.2)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_networks_are_read_without_their_code(tmp_path, protocol):
    config = {
        "img_resolution": 64,
        "channel_mult": [1, 2],
        "model_type": "SongUNet",
        "label_dim": 0,
        "use_fp16": False,
        "dropout": 0.1,
    }
    net = EDMPrecond(**config)
    half = EDMPrecond(**config).half()
    value = {
        "ema": net,
        "half": half,
        "encoder": StabilityVAEEncoder(),
        "loss_fn": EDMLoss(),
        "dataset_kwargs": EasyDict(path="a.zip"),
    }
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(value, protocol))
    with open_container(tmp_path / "net.pkl") as container:
        assert container.roots == ("ema", "half", "encoder")
        state = net.state_dict()
        assert [name for name in container.tensors if name.startswith("ema/")] == [f"ema/{name}" for name in state]
        assert "ema/model.enc.64x64_conv.weight" in container.tensors
        for root, module in (("ema", net), ("half", half)):
            for name, tensor in module.state_dict().items():
                assert container.tensors[f"{root}/{name}"] == (
                    tuple(tensor.shape),
                    str(tensor.dtype).removeprefix("torch."),
                )
                np.testing.assert_array_equal(container.read(f"{root}/{name}"), tensor.float().numpy())
        np.testing.assert_array_equal(container.read("encoder/scale"), [0.5, 0.25])
        np.testing.assert_array_equal(container.read("encoder/shift"), np.arange(6.0).reshape(2, 3))
        assert container.config_of("ema") == {"_class_name": "EDMPrecond", **config}
        assert container.metadata == {
            "loss_fn": {"_class_name": "EDMLoss", "P_mean": -1.2},
            "dataset_kwargs": {"path": "a.zip"},
        }
        assert {saved.name: saved.class_name for saved in container.layers("ema")} == {
            "model.map_layer0": "Linear",
            "model.enc.64x64_conv": "Linear",
            "model.enc.64x64_aux": "Conv2d",
        }


def test_other_names_are_refused(tmp_path):
    (tmp_path / "net.pkl").write_bytes(pickle.dumps({"ema": np.random.default_rng(0)}))
    with pytest.raises(CheckpointError, match=r"numpy\.random"):
        open_container(tmp_path / "net.pkl")
