"""LPIPS against the package of that name, with random backbones and the heads that it ships."""

import importlib.util
import types
from pathlib import Path

import numpy as np
import pytest
from peers import Stub, modules

import keras_diffusion as kd
from keras_diffusion.containers.errors import CheckpointError

torch = pytest.importorskip("torch")
nn = torch.nn


def fire(inputs, squeezed, filters):
    """torchvision's fire module: its names, and what it computes."""

    class Fire(nn.Module):
        def __init__(self):
            super().__init__()
            self.squeeze = nn.Conv2d(inputs, squeezed, 1)
            self.expand1x1 = nn.Conv2d(squeezed, filters, 1)
            self.expand3x3 = nn.Conv2d(squeezed, filters, 3, padding=1)

        def forward(self, x):
            x = torch.relu(self.squeeze(x))
            return torch.cat([torch.relu(self.expand1x1(x)), torch.relu(self.expand3x3(x))], 1)

    return Fire()


def alexnet():
    pool, relu = nn.MaxPool2d(3, 2), nn.ReLU()
    convolutions = [
        nn.Conv2d(3, 64, 11, 4, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.Conv2d(256, 256, 3, padding=1),
    ]
    a, b, c, d, e = convolutions
    return nn.Sequential(a, relu, pool, b, relu, pool, c, relu, d, relu, e, relu, pool)


def vgg16():
    layers, inputs = [], 3
    for filters, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(inputs, filters, 3, padding=1), nn.ReLU()]
            inputs = filters
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


def squeezenet():
    def pool():
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    head = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(), fire(64, 16, 64), fire(128, 16, 64), pool()]
    middle = [fire(128, 32, 128), fire(256, 32, 128), pool()]
    return nn.Sequential(*head, *middle, fire(256, 48, 192), fire(384, 48, 192), fire(384, 64, 256), fire(512, 64, 256))


FEATURES = {"alex": alexnet, "vgg": vgg16, "squeeze": squeezenet}


@pytest.mark.parametrize("name", ["alex", "squeeze", pytest.param("vgg", marks=pytest.mark.slow)])
def test_distances_are_those_of_lpips(name, tmp_path):
    spec = importlib.util.find_spec("lpips")
    if spec is None:
        pytest.skip("lpips is not installed")
    torch.manual_seed(0)
    features = FEATURES[name]()
    for parameter in features.parameters():
        if parameter.ndim > 1:  # as wide as keeps signals up
            nn.init.kaiming_normal_(parameter)
    torchvision = Stub("torchvision")
    torchvision.models = Stub("torchvision.models")
    for function in ("alexnet", "vgg16", "squeezenet1_1"):
        setattr(torchvision.models, function, lambda **_: types.SimpleNamespace(features=features))
    with modules("lpips", torchvision=torchvision, torchvision__models=torchvision.models):
        import lpips

        theirs = lpips.LPIPS(net=name, verbose=False)
    torch.save({f"features.{key}": value for key, value in features.state_dict().items()}, tmp_path / "trunk.pth")
    heads = Path(spec.submodule_search_locations[0]) / "weights" / "v0.1" / f"{name}.pth"
    ours = kd.metrics.LPIPS(name, backbone=tmp_path / "trunk.pth", heads=heads, batch_size=2)
    rng = np.random.default_rng(0)
    originals = rng.uniform(-1, 1, (3, 68, 71, 3)).astype("float32")
    pictures = np.clip(originals + rng.uniform(0, 1, (3, 1, 1, 1)) * rng.standard_normal(originals.shape), -1, 1)
    with torch.no_grad():
        first, second = (torch.from_numpy(x.astype("float32")).permute(0, 3, 1, 2) for x in (pictures, originals))
        expected = theirs(first, second).numpy()[:, 0, 0, 0]
    found = ours(pictures, originals)
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(ours(originals, originals), 0.0, atol=1e-7)


def test_weights_are_asked_for(tmp_path):
    with pytest.raises(ValueError, match=r"backbone=None.*download.pytorch.org/models/alexnet"):
        kd.metrics.LPIPS()
    torch.save({"features.0.weight": torch.zeros(64, 3, 11, 11)}, tmp_path / "trunk.pth")
    with pytest.raises(ValueError, match=r"heads=None.*lpips/weights/v0.1/alex.pth"):
        kd.metrics.LPIPS(backbone=tmp_path / "trunk.pth")
    with pytest.raises(CheckpointError, match="lacks 9 tensors"):
        kd.metrics.LPIPS(backbone=tmp_path / "trunk.pth", heads=tmp_path / "trunk.pth")
