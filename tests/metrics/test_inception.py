"""The InceptionV3 of FID against torch-fidelity and pytorch-fid, with the same random weights."""

import types
from unittest import mock

import numpy as np
import pytest
from peers import Stub, alone

import keras_diffusion as kd
from keras_diffusion.containers.errors import CheckpointError

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def peer():
    """torch-fidelity's module of the network."""
    return alone("torch_fidelity", "feature_extractor_inceptionv3", torchvision=Stub("torchvision"))


@pytest.fixture(scope="module")
def torch_network(peer):
    """torch-fidelity's network with random weights, from which signals neither grow nor die away."""
    rng = np.random.default_rng(0)
    names = list(peer.FeatureExtractorInceptionV3.get_provided_features_list())
    nothing = mock.patch.object(torch.nn.Module, "load_state_dict"), mock.patch.object(torch, "load")
    with nothing[0], nothing[1]:
        network = peer.FeatureExtractorInceptionV3("inception-v3-compat", names, feature_extractor_weights_path="-")
    for name, tensor in network.state_dict().items():
        shape = tuple(tensor.shape)
        if name.endswith(("conv.weight", "fc.weight")):
            value = rng.standard_normal(shape, "float32") * np.sqrt(2.0 / np.prod(shape[1:]))
        elif name.endswith(("bn.weight", "running_var")):
            value = rng.uniform(0.5, 1.5, shape)
        else:
            value = 0.1 * rng.standard_normal(shape)
        tensor.copy_(torch.from_numpy(np.asarray(value, "float32")))
    return network


@pytest.fixture(scope="module")
def weights(torch_network, tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(torch_network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (3, 40, 56, 3)).astype("uint8")


@pytest.fixture(scope="module")
def expected(torch_network, images):
    with torch.no_grad():
        found = torch_network(torch.from_numpy(images).permute(0, 3, 1, 2))
    return dict(zip(torch_network.features_list, (value.numpy() for value in found)))


@pytest.fixture(scope="module")
def extractor(weights):
    return kd.metrics.get_extractor("inception", weights=weights, batch_size=2)


@pytest.fixture(scope="module")
def found(extractor, images):
    return extractor.extract(images, ("features", "logits"))


def relative_error(ours, theirs):
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


def test_features_and_logits_are_those_of_torch_fidelity(extractor, found, expected):
    assert found["features"].shape == (3, extractor.width) and found["features"].dtype == np.float32
    errors = {
        "2048": relative_error(found["features"], expected["2048"]),
        "logits": relative_error(found["logits"], expected["logits_unbiased"]),
    }
    assert max(errors.values()) < 1e-4, errors
    assert relative_error(expected["logits"], expected["logits_unbiased"]) > 1e-3, "the bias would be seen"


@pytest.mark.parametrize("width", [64, *(pytest.param(n, marks=pytest.mark.slow) for n in (192, 768))])
def test_earlier_features_too(weights, images, expected, width):
    extractor = kd.metrics.get_extractor("inception", weights=weights, features=width, batch_size=3)
    assert relative_error(extractor(images), expected[str(width)]) < 1e-4
    with pytest.raises(ValueError, match="Logits come from an extractor with classes"):
        extractor.logits(images)


@pytest.mark.slow  # the network is the one above; torch-fidelity's features hold it on every backend
def test_features_are_those_of_pytorch_fid(extractor, torch_network, peer, images, found):
    """pytorch-fid patches torchvision's classes, for which torch-fidelity's stand here: their forward is replaced."""
    kinds = {"InceptionA": peer.InceptionA, "InceptionC": peer.InceptionC, "InceptionE": peer.InceptionE_1}
    inception = types.SimpleNamespace(**kinds)
    torchvision = Stub("torchvision")
    torchvision.__version__ = "0.29.2"
    torchvision.models = types.SimpleNamespace(inception=inception, inception_v3=lambda **options: torch_network)
    theirs = alone("pytorch_fid", "inception", torchvision=torchvision)
    before = {name: getattr(torch_network, name) for name, _ in torch_network.named_children() if "Mixed" in name}
    state = {name: tensor.clone() for name, tensor in torch_network.state_dict().items()}
    with mock.patch.object(theirs, "load_state_dict_from_url", lambda *_, **__: state):
        network = theirs.InceptionV3().eval()
    for name, block in before.items():  # `torch_network` is shared by the tests
        setattr(torch_network, name, block)
    with torch.no_grad():
        expected = network(torch.from_numpy(images[:2] / 255.0).float().permute(0, 3, 1, 2))[0][:, :, 0, 0].numpy()
    prepared = kd.metrics.Preprocessing("pytorch", 299, "symmetric")
    assert relative_error(extractor.run(prepared(images[:2]))["features"], expected) < 1e-4
    assert relative_error(found["features"][:2], expected) > 1e-3, "another resizing, other features"


def test_a_picture_does_not_depend_on_its_batch_and_floats_are_those_of_a_file(extractor, images, found):
    floats = images[1:].astype("float32") / 127.5 - 1.0
    largest = np.abs(found["features"]).max()
    np.testing.assert_allclose(extractor(floats), found["features"][1:], rtol=1e-5, atol=1e-5 * largest)


def test_fingerprint_is_of_weights_and_preprocessing(weights):
    options = {"weights": weights, "features": 64}
    first = kd.metrics.get_extractor("inception", **options)
    again = kd.metrics.get_extractor("inception", batch_size=7, **options)
    assert again.fingerprint() == first.fingerprint(), "batches change nothing"
    clean = kd.metrics.get_extractor("inception", preprocessing="clean", **options)
    other = kd.metrics.get_extractor("inception", **options)
    other.network.weights[1].assign(other.network.weights[1] + 1e-3)
    assert len({first.fingerprint(), clean.fingerprint(), other.fingerprint()}) == 3
    assert "clean" in repr(clean) and "64" in repr(clean)


def test_missing_and_wrong_weights_are_explained(tmp_path):
    with pytest.raises(ValueError, match=r"nothing is downloaded.*weights=None.*torch-fidelity/releases.*pytorch-fid"):
        kd.metrics.get_extractor("inception")
    with pytest.raises(FileNotFoundError, match=r"They are published at https://github.com/toshas"):
        kd.metrics.get_extractor("inception", weights=tmp_path / "gone.pth")
    torch.save({"Conv2d_1a_3x3.conv.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"lacks \d+ tensors that the network needs"):
        kd.metrics.get_extractor("inception", weights=tmp_path / "other.pth", features=64)
