"""Values in configs of diffusers that are of no kind that their keys have."""

import json
import shutil
from pathlib import Path

import pytest

from keras_diffusion import checkpoints

FOLDER = Path(__file__).parent.parent / "golden" / "diffusers" / "unet2d_class_cond_scale_shift" / "model"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("down_block_types", [3]),
        ("down_block_types", "DownBlock2D"),
        ("up_block_types", {"0": "UpBlock2D"}),
        ("block_out_channels", [8, "16"]),
        ("norm_eps", "1e-5"),
        ("norm_num_groups", True),
        ("flip_sin_to_cos", "yes"),
        ("act_fn", 3),
        ("layers_per_block", {}),
    ],
)
def test_values_of_another_kind_in_a_file(key, value, tmp_path):
    folder = shutil.copytree(FOLDER, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(
        checkpoints.CheckpointError, match=f"The config of a UNet2DModel has values like {key}=.*Received: {key}="
    ):
        checkpoints.load(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "small"])
def test_numbers_that_are_none_in_the_callers_config(value):
    with pytest.raises(checkpoints.CheckpointError, match="norm_eps=1e-05. Received: norm_eps="):
        checkpoints.load(FOLDER, config={"norm_eps": value})
