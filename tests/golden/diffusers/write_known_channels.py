"""Writes the U-Nets with more channels in than out that lie beside this file, with diffusers 0.42.1 and torch 2.13.

PYTHONPATH=.venv/peers python tests/golden/diffusers/write_known_channels.py tests/golden/diffusers
"""

import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel, UNet2DModel

folder = Path(sys.argv[1])
COMMON = {"norm_num_groups": 4, "layers_per_block": 1, "block_out_channels": (8, 16)}
SD = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 8,
    "attention_head_dim": 2,
    **COMMON,
}
CASES = {
    "unet2d_condition_inpainting": (
        UNet2DConditionModel,
        {"sample_size": 8, "in_channels": 9, "out_channels": 4, **SD},
    ),
    "unet2d_super_resolution": (
        UNet2DModel,
        {
            "sample_size": 8,
            "in_channels": 6,
            "out_channels": 3,
            "attention_head_dim": 4,
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
            **COMMON,
        },
    ),
}
for case, (cls, config) in CASES.items():
    torch.manual_seed(0)
    model = cls(**config).eval()
    rng = np.random.default_rng(0)
    for parameter in model.parameters():  # fresh ones are 0 where layers end
        parameter.data += torch.tensor(0.05 * rng.standard_normal(tuple(parameter.shape)), dtype=torch.float32)
    inputs = {"sample": rng.standard_normal((2, config["in_channels"], 8, 8)), "timestep": np.array([3, 980])}
    if cls is UNet2DConditionModel:
        inputs["encoder_hidden_states"] = rng.standard_normal((2, 5, 8))
    tensors = {
        k: torch.tensor(v, dtype=torch.float32 if v.dtype == np.float64 else torch.int64) for k, v in inputs.items()
    }
    with torch.no_grad():
        out = model(**tensors).sample.numpy()
    (folder / case).mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder / case / "model")
    np.savez_compressed(folder / case / "io.npz", out=out, **{f"in/{k}": t.numpy() for k, t in tensors.items()})
    print(case, out.shape, out.std())
