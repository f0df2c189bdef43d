"""Eight virtual devices against one: training, sampling, resuming.

All numbers come from one run of eight_devices.py.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TOLERANCE = 1e-5  # of losses
# Adam divides gradients by their size: where they are nothing but rounding, weights may move apart by a share of the
# learning rate, 1e-2.
OF_WEIGHTS = 2e-4
SAME = 1e-6  # of samples in [-1, 1]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    out = tmp_path_factory.mktemp("devices") / "found.json"
    script = Path(__file__).parent / "eight_devices.py"
    result = subprocess.run(
        [sys.executable, script, out], env=os.environ, capture_output=True, text=True, timeout=600, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(out.read_text())


@pytest.mark.parametrize("run", ["dit data=8", "dit data=4,model=2", "unet data=4,model=2"])
def test_training_equals_one_device(found, run):
    """Those of "dit" accumulate gradients over two steps.

    Noise is drawn for the whole batch, so that it does not depend on devices.
    """
    assert found[run]["loss"] < TOLERANCE and found[run]["weights"] < OF_WEIGHTS


@pytest.mark.parametrize(
    "case", ["eight, guided, stochastic", "five, in all steps", "five, inpainting", "sampled from split weights"]
)
def test_samples_are_those_of_one_device(found, case):
    """Also five of them, which eight devices do not divide."""
    assert found[case] < SAME


def test_adaptive_steps_are_those_of_one_device(found):
    """The step size follows from an error over the whole batch: without padding, and up to the rounding of a sum."""
    assert found["five, adaptive"] < 1e-4


def test_likelihood_is_that_of_one_device(found):
    assert found["log-likelihood"] < 1e-4


def test_sampling_runs_split(found):
    assert found["x"] == ["P('batch',)", 8]
    assert found["trajectory"] == ["P(None, 'batch')", 8]


def test_hooks_see_no_padding(found):
    assert found["hook"] == [[5, 4, 4, 2]] * 2


def test_weights_lie_split_everywhere(found):
    split = found["split"]
    assert split["dit_block_0/attention/query/kernel"] == ["None", "model"]
    assert split["dit_block_0/attention/out/kernel"] == split["dit_block_0/mlp2/kernel"] == ["model", "None"]
    assert found["average like network"]
    assert found["split in the optimizer"] == 3 * len(split), "two moments and the accumulated gradient of each"


def test_resuming_on_other_devices(found):
    """An epoch on 4 × 2 devices, one more on 8, against two on one."""
    assert found["resumed"] < TOLERANCE


@pytest.mark.parametrize(
    "case, words",
    [
        ("arrays", "split over 8 devices. Received: a last batch of 4 samples. Choose a batch size that divides"),
        ("batches", "Received: a last batch of 4 samples."),
        ("stream", "Received: another one, Sharding"),
        ("count", "There are 8 devices. Received: 'data=16'."),
    ],
)
def test_errors(found, case, words):
    assert words in found[f"error, {case}"]
