"""Every metric moves the right way, by more than its error, when real pictures are damaged in a known way."""

import importlib.util
from pathlib import Path

import pytest

from keras_diffusion import metrics

pytestmark = pytest.mark.slow  # once: the values do not depend on the backend
pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def sanity():
    path = Path(__file__).parent.parent.parent / "benchmarks" / "metric_sanity.py"
    spec = importlib.util.spec_from_file_location("metric_sanity", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def found(sanity):
    return sanity.measured()


@pytest.mark.parametrize("name", metrics.names())
def test_moves_the_right_way(sanity, found, name):
    for damage, sign in sanity.EXPECTED[name].items():
        moved = sanity.moves(found[name][damage], found[name]["none"])
        if sign == "0":
            assert abs(moved) < 3.0, f"{name} moved by {moved:.1f} errors under {damage}"
        else:
            assert moved * (1.0 if sign == "+" else -1.0) > 2.0, f"{name} moved by {moved:.1f} errors under {damage}"
