"""PSNR, SSIM and MS-SSIM against torchmetrics."""

import numpy as np
import pytest
from peers import import_peer

from keras_diffusion import metrics

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def peer():
    return import_peer("torchmetrics.functional.image")


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    originals = rng.uniform(-1, 1, (3, 20, 26, 3))
    originals[0] = np.linspace(-1, 1, 26)[None, :, None]
    return np.clip(originals + 0.2 * rng.standard_normal(originals.shape), -1, 1), originals


def torch_pair(pair):
    return [torch.from_numpy((x + 1) / 2).permute(0, 3, 1, 2) for x in pair]


def test_psnr_is_that_of_torchmetrics(peer, pair):
    theirs = peer.peak_signal_noise_ratio(*torch_pair(pair), data_range=1.0, dim=(1, 2, 3), reduction="none")
    np.testing.assert_allclose(metrics.psnr(*pair), theirs.numpy(), rtol=1e-6)
    assert metrics.psnr(pair[0], pair[0]).tolist() == [np.inf] * 3


def test_ssim_is_that_of_torchmetrics(peer, pair):
    theirs = peer.structural_similarity_index_measure(*torch_pair(pair), data_range=1.0, reduction="none")
    np.testing.assert_allclose(metrics.ssim(*pair), theirs.numpy(), atol=1e-6)


def test_ms_ssim_is_that_of_torchmetrics(peer):
    rng = np.random.default_rng(0)
    originals = np.cumsum(rng.standard_normal((2, 181, 177, 1)), axis=1) / 20
    pair = [np.clip(x, -1, 1) for x in (originals + 0.1 * rng.standard_normal(originals.shape), originals)]
    theirs = peer.multiscale_structural_similarity_index_measure(*torch_pair(pair), data_range=1.0, reduction="none")
    np.testing.assert_allclose(metrics.ms_ssim(*pair), theirs.numpy(), atol=1e-6)
    fewer = metrics.ms_ssim(*(x[:, :60, :60] for x in pair), weights=(0.3, 0.7))
    theirs = peer.multiscale_structural_similarity_index_measure(
        *(x[:, :, :60, :60] for x in torch_pair(pair)), data_range=1.0, betas=(0.3, 0.7), reduction="none"
    )
    np.testing.assert_allclose(fewer, theirs.numpy(), atol=1e-6)


@pytest.mark.parametrize("measure", [metrics.psnr, metrics.ssim])
def test_more_noise_is_worse_and_bytes_are_floats(pair, measure):
    rng = np.random.default_rng(1)
    original = (127.5 * (pair[1] + 1)).round().astype("uint8")
    noise = rng.standard_normal(original.shape)
    values = [measure((original + s * noise).clip(0, 255).astype("uint8"), original) for s in (2, 10, 50)]
    assert (np.diff(values, axis=0) < 0).all()
    np.testing.assert_allclose(measure(pair[0], original), measure(pair[0], original / 127.5 - 1.0), rtol=1e-12)


def test_refusals(pair):
    with pytest.raises(ValueError, match="with its original, of the same shape"):
        metrics.psnr(pair[0], pair[1][:2])
    with pytest.raises(ValueError, match="at least 176: 5 scales halve it 4 times"):
        metrics.ms_ssim(*pair)
    with pytest.raises(ValueError, match="at least 6"):
        metrics.ssim(pair[0][:, :5], pair[1][:, :5])
    with pytest.raises(ValueError, match="pictures with 1 NaN"):
        bad = pair[0].copy()
        bad[0, 0, 0, 0] = np.nan
        metrics.ssim(bad, pair[1])
