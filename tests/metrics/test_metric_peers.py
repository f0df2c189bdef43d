"""The same numbers as torch-fidelity, clean-fid, pytorch-fid, torchmetrics, prdc and vendi-score, computed live.

All get the same float64 features: what differs then is the formula, not the rounding of float32.
"""

import numpy as np
import pytest
from peers import import_peer

from keras_diffusion import metrics
from keras_diffusion.metrics.kernel_distance import subset_distances

pytestmark = pytest.mark.slow  # once: the values do not depend on the backend
SAME = 1e-6  # relative

RNG = np.random.default_rng(0)
REAL = np.maximum(RNG.standard_normal((400, 24)) @ RNG.standard_normal((24, 24)), 0.0)  # like features after a ReLU
GENERATED = np.maximum(RNG.standard_normal((350, 24)) @ RNG.standard_normal((24, 24)) + 0.3, 0.0)


def tensors(*arrays):
    torch = pytest.importorskip("torch")
    return [torch.from_numpy(array) for array in arrays]


def moments(features):
    return features.mean(axis=0), np.cov(features, rowvar=False)


@pytest.fixture
def old_scipy(monkeypatch):
    """clean-fid and pytorch-fid call `sqrtm(…, disp=False)`, which newer versions of SciPy have without the error."""
    from scipy import linalg

    sqrtm = linalg.sqrtm
    monkeypatch.setattr(linalg, "sqrtm", lambda matrix, disp=True: sqrtm(matrix) if disp else (sqrtm(matrix), 0.0))


@pytest.mark.parametrize("counts", [(350, 400), (40, 30)])
def test_fd_of_torch_fidelity(counts):
    metric_fid = import_peer("torch_fidelity.metric_fid")
    generated, real = GENERATED[: counts[0]], REAL[: counts[1]]
    theirs = metric_fid.fid_statistics_to_metric(
        *(metric_fid.fid_features_to_statistics(side) for side in tensors(generated, real)), verbose=False
    )
    assert metrics.get("fd")(generated, real).value == pytest.approx(theirs["frechet_inception_distance"], rel=SAME)


@pytest.mark.parametrize(
    ("module", "function"),
    [("cleanfid.fid", "frechet_distance"), ("pytorch_fid.fid_score", "calculate_frechet_distance")],
)
def test_fd_of_clean_fid_and_pytorch_fid(module, function, old_scipy):
    theirs = getattr(import_peer(module), function)(*moments(GENERATED), *moments(REAL))
    assert metrics.get("fd")(GENERATED, REAL).value == pytest.approx(theirs, rel=SAME)


def test_fd_of_torchmetrics():
    fid = import_peer("torchmetrics.image.fid")
    theirs = fid._compute_fid(*tensors(*moments(GENERATED), *moments(REAL)))
    assert metrics.get("fd")(GENERATED, REAL).value == pytest.approx(float(theirs), rel=SAME)


def test_statistics_files_of_pytorch_fid(tmp_path):
    fid_score = import_peer("pytorch_fid.fid_score")
    path = metrics.FeatureStatistics.of(REAL).save(tmp_path / "real.npz")
    mu, sigma = fid_score.compute_statistics_of_path(str(path), None, 50, 24, "cpu")
    np.testing.assert_allclose(mu, REAL.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(sigma, np.cov(REAL, rowvar=False), rtol=1e-9, atol=1e-12)


def test_kid_of_torch_fidelity_on_the_same_subsets():
    metric_kid = import_peer("torch_fidelity.metric_kid")
    theirs = metric_kid.kid_features_to_metric(
        *tensors(GENERATED, REAL), kid_subsets=20, kid_subset_size=100, verbose=False
    )
    values = subset_distances(GENERATED, REAL, subsets=20, subset_size=100)
    assert values.std() == pytest.approx(theirs["kernel_inception_distance_std"], rel=SAME)
    ours = metrics.get("kid", subsets=20, subset_size=100)(GENERATED, REAL)
    assert ours.value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=SAME)


def test_kid_of_clean_fid_on_the_same_subsets(monkeypatch):
    fid = import_peer("cleanfid.fid")
    drawn = []

    def choice(*arguments, **options):
        drawn.append(np.random.RandomState(len(drawn)).choice(*arguments, **options))
        return drawn[-1]

    monkeypatch.setattr(fid.np.random, "choice", choice)
    theirs = fid.kernel_distance(GENERATED, REAL, num_subsets=5, max_subset_size=100)
    pairs = zip(drawn[1::2], drawn[::2], strict=True)  # the second set is drawn from first
    values = [metrics.kernel_distance(GENERATED[x], REAL[y], subsets=None).value for x, y in pairs]
    assert len(values) == 5
    assert np.mean(values) == pytest.approx(theirs, rel=SAME)


def test_kid_of_torchmetrics():
    kid = import_peer("torchmetrics.image.kid")
    theirs = kid.poly_mmd(*tensors(REAL[:350], GENERATED))
    ours = metrics.kernel_distance(GENERATED, REAL[:350], subsets=None).value
    assert ours == pytest.approx(float(theirs), rel=SAME)


def test_cmmd_is_torch_fidelitys_kernel_with_the_diagonal():
    metric_kid = import_peer("torch_fidelity.metric_kid")
    generated, real = (side[:300] / np.linalg.norm(side[:300], axis=1, keepdims=True) for side in (GENERATED, REAL))
    kernels = [
        metric_kid.kernel_rbf(a, b, kid_kernel_rbf_sigma=10)
        for a, b in ((generated, generated), (generated, real), (real, real))
    ]
    theirs = 1000.0 * metric_kid.mmd2(*kernels, mmd_est="biased")
    assert metrics.get("cmmd")(generated, real).value == pytest.approx(theirs, rel=SAME)


def test_inception_score_of_torch_fidelity():
    metric_isc = import_peer("torch_fidelity.metric_isc")
    theirs = metric_isc.isc_features_to_metric(*tensors(GENERATED))
    ours = metrics.get("inception_score")(GENERATED)
    assert ours.value == pytest.approx(theirs["inception_score_mean"], rel=SAME)
    assert ours.standard_error == pytest.approx(theirs["inception_score_std"] / 3.0, rel=SAME)  # √10·√(1 − 1/10)


@pytest.mark.parametrize("memory", [False, True])
def test_precision_and_recall_of_torch_fidelity(memory):
    metric_prc = import_peer("torch_fidelity.metric_prc")
    theirs = metric_prc.prc_features_to_metric(*tensors(GENERATED, REAL), save_cpu_ram=memory, verbose=False)
    for name in ("precision", "recall"):
        assert metrics.get(name)(GENERATED, REAL).value == pytest.approx(theirs[name], rel=SAME)
    assert 0 < theirs["precision"] < 1 and 0 < theirs["recall"] < 1


def test_density_and_coverage_of_prdc():
    theirs = import_peer("prdc").compute_prdc(REAL, GENERATED, nearest_k=5)
    for name in ("precision", "recall", "density", "coverage"):
        assert metrics.get(name, neighbours=5)(GENERATED, REAL).value == pytest.approx(theirs[name], rel=SAME)


def test_vendi_score_of_its_authors():
    vendi = import_peer("vendi_score.vendi")
    theirs = vendi.score_dual(GENERATED)
    assert metrics.get("vendi")(GENERATED).value == pytest.approx(theirs, rel=SAME)
    assert metrics.get("vendi")(GENERATED[:20]).value == pytest.approx(vendi.score_dual(GENERATED[:20]), rel=SAME)


def test_clip_score_is_torchmetrics_cosine_times_a_hundred():
    functional = import_peer("torchmetrics.functional")
    theirs = functional.pairwise_cosine_similarity(*tensors(GENERATED, REAL[:350])).diagonal()
    assert float(theirs.min()) > 0
    assert metrics.clip_score(GENERATED, REAL[:350]).value == pytest.approx(100 * float(theirs.mean()), rel=SAME)
