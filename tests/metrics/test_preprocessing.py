"""Resizing and normalization against the code that published numbers were computed with."""

import numpy as np
import pytest
from peers import Stub, alone

from keras_diffusion.metrics.extractors.preprocessing import Preprocessing, to_bytes, torch_bicubic_matrix

SIZES = [(8, 8), (33, 40), (299, 299), (310, 420)]


@pytest.fixture(scope="module", params=SIZES, ids=str)
def images(request):
    return np.random.default_rng(0).integers(0, 256, (2, *request.param, 3)).astype("uint8")


def test_clean_is_clean_fids(images):
    pytest.importorskip("PIL")
    resize = alone("cleanfid", "resize").make_resizer("PIL", False, "bicubic", (299, 299))
    theirs = np.stack([resize(image) for image in images])
    ours = Preprocessing("clean", 299)(images)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)  # of 255
    assert ours.min() >= 0 and ours.max() <= 255


@pytest.mark.parametrize("size", [299, 224])
def test_torch_fidelity_is_torch_fidelitys(images, size):
    torch = pytest.importorskip("torch")
    peer = alone("torch_fidelity", "interpolate_compat_tensorflow", torchvision=Stub("torchvision"))
    pictures = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    theirs = peer.interpolate_bilinear_2d_like_tensorflow1x(pictures, size=(size, size), align_corners=False)
    ours = Preprocessing("torch-fidelity", size)(images)
    np.testing.assert_allclose(ours, theirs.permute(0, 2, 3, 1).numpy(), atol=1e-4)


@pytest.mark.slow
def test_tensorflow_is_tensorflows(images):
    tf = pytest.importorskip("tensorflow")
    theirs = tf.compat.v1.image.resize_bilinear(images, (299, 299), align_corners=False, half_pixel_centers=False)
    np.testing.assert_allclose(Preprocessing("tensorflow", 299)(images), theirs.numpy(), atol=1e-4)


def test_pytorch_is_pytorchs(images):
    functional = pytest.importorskip("torch").nn.functional
    import torch

    pictures = torch.from_numpy(images).permute(0, 3, 1, 2).double()
    theirs = functional.interpolate(pictures, size=(299, 299), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(Preprocessing("pytorch", 299)(images), theirs.permute(0, 2, 3, 1).numpy(), atol=1e-4)


@pytest.mark.parametrize(("options", "scale"), [({"size": 16}, None), ({"scale_factor": 16.1 / 37}, 37 / 16.1)])
def test_torch_bicubic_is_pytorchs(options, scale):
    torch = pytest.importorskip("torch")
    grid = np.random.default_rng(0).standard_normal((37, 37))
    tensor = torch.from_numpy(grid)[None, None]
    options = {key: (value, value) for key, value in options.items()}
    theirs = torch.nn.functional.interpolate(tensor, mode="bicubic", align_corners=False, **options)[0, 0].numpy()
    matrix = torch_bicubic_matrix(37, 16, scale)
    np.testing.assert_allclose(matrix @ grid @ matrix.T, theirs, atol=1e-5)


def test_normalizations():
    image = np.array([0, 128, 255], "uint8")[None, :, None, None].repeat(3, axis=-1)
    inception = Preprocessing(None, normalization="inception")(image)[0, :, 0, 0]
    np.testing.assert_allclose(inception, [-1.0, 0.0, 127 / 128])
    np.testing.assert_allclose(Preprocessing(None, normalization="symmetric")(image)[0, :, 0, 0], [-1, 1 / 255, 1])
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(
        Preprocessing(None, normalization="imagenet")(image)[0, 1, 0], (128 / 255 - mean) / std, rtol=1e-5
    )


def test_floats_are_rounded_to_8_bits_unless_told_otherwise():
    image = np.array([-1.2, -1.0, 0.001, 1.0], "float32")[None, :, None, None]
    np.testing.assert_array_equal(to_bytes(image)[0, :, 0, 0], [0, 0, 128, 255])
    ours = Preprocessing(None, quantize=False)(image)
    assert ours.shape == (1, 4, 1, 3), "one channel becomes three"
    np.testing.assert_allclose(ours[0, :, 0, 2], [-25.5, 0.0, 127.6275, 255.0], rtol=1e-5)


def test_refusals():
    with pytest.raises(ValueError, match="one of 'clean', 'torch-fidelity'"):
        Preprocessing("cleaner", 299)
    with pytest.raises(ValueError, match="Put transparent pictures on a background first"):
        Preprocessing("clean", 16)(np.zeros((1, 8, 8, 4), "uint8"))
