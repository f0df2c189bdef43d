"""The small files beside a pipeline's tokenizer, as anybody may have written them."""

import json

import pytest

from keras_diffusion.checkpoints import CheckpointError
from keras_diffusion.checkpoints.families.diffusers.family import _tokenizer


def folder(path, config=None, vocabulary=None):
    (path / "merges.txt").write_text("#version\na b\n")
    for name, value in (("tokenizer_config.json", config), ("vocab.json", vocabulary)):
        if value is not None:
            (path / name).write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_the_token_that_fills_up(tmp_path):
    assert _tokenizer(tmp_path, 8) is None
    assert _tokenizer(folder(tmp_path), 8).pad_token is None
    assert _tokenizer(folder(tmp_path, {"pad_token": "!"}, {"!": 0}), 8).pad_token == 0
    assert _tokenizer(folder(tmp_path, {"pad_token": {"content": "!"}}, {"!": 3}), 8).pad_token == 3


@pytest.mark.parametrize("pad", [None, 3, [], {}, {"content": ["!"]}])
def test_what_is_no_token_counts_as_none(pad, tmp_path):
    assert _tokenizer(folder(tmp_path, {"pad_token": pad}, {"!": 0}), 8).pad_token is None


PAD = {"pad_token": "!"}


@pytest.mark.parametrize("config, vocabulary", [("{", {}), ("[]", {}), (PAD, "["), (PAD, {"!": "0"}), (PAD, {"!": -1})])
def test_damage_is_a_checkpoint_error(config, vocabulary, tmp_path):
    with pytest.raises(CheckpointError):
        _tokenizer(folder(tmp_path, config, vocabulary), 8)
