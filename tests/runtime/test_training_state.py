"""state.json names a file beside it and counts what was done, or it is refused."""

import json

import pytest

from keras_diffusion.runtime.training_state import read_state

STATE = {"epoch": 3, "data_epoch": None, "weights": "state-000003.weights.h5"}


def write(folder, state):
    (folder / "state.json").write_text(state if isinstance(state, str) else json.dumps(state))
    return folder


@pytest.mark.parametrize(
    "more", [{}, {"data_epoch": 3}, {"step": 7, "weights": "state-000003-000000007.weights.h5", "metrics": [0.5, [1]]}]
)
def test_a_sound_state_is_read(more, tmp_path):
    assert read_state(write(tmp_path, {**STATE, **more})) == {**STATE, **more}


OUTSIDE = [
    "../state-000003.weights.h5",
    "/etc/passwd",
    "sub/state-000003.weights.h5",
    "state-000003.weights.h5/..",
    "..",
    "",
    None,
    3,
    [],
]


@pytest.mark.parametrize(
    "weights",
    [*OUTSIDE, "other.weights.h5", "state-1.weights.h5\n", "state-1\0.weights.h5", "hf://a/b/state-1.weights.h5"],
)
def test_weights_that_lie_elsewhere_are_refused(weights, tmp_path):
    with pytest.raises(ValueError, match="weights are a file beside it"):
        read_state(write(tmp_path, {**STATE, "weights": weights}))


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "state" / STATE["weights"]).symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match="weights are a file beside it"):
        read_state(write(tmp_path / "state", STATE))


@pytest.mark.parametrize("key", ["epoch", "data_epoch", "step"])
@pytest.mark.parametrize("value", [-1, 1.5, "3", True, [], 10**30])
def test_counts_are_counts(key, value, tmp_path):
    with pytest.raises(ValueError, match="counts epochs and steps|no JSON"):
        read_state(write(tmp_path, {**STATE, key: value}))


def test_other_damage(tmp_path):
    for text in (
        "",
        "[]",
        '{"epoch"',
        '{"epoch": 1}',
        json.dumps({**STATE, "metrics": ["x"]}),
        '{"epoch": NaN}',
        "[" * 100000,
    ):
        with pytest.raises(OSError, match="Received|JSON|limit"):
            read_state(write(tmp_path, text), error=OSError)
    with pytest.raises(FileNotFoundError):
        read_state(tmp_path / "none")
