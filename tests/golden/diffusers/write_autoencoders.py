"""Writes the autoencoders of other kinds that lie beside this file, with diffusers 0.42.1 and torch 2.13.

PYTHONPATH=.venv/peers python tests/golden/diffusers/write_autoencoders.py tests/golden/diffusers
"""

import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny

folder = Path(sys.argv[1])
KL = {
    "block_out_channels": (4, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 16,
}
TINY = {
    "encoder_block_out_channels": (8, 8, 8),
    "decoder_block_out_channels": (8, 8, 8),
    "num_encoder_blocks": (1, 2, 1),
    "num_decoder_blocks": (2, 1, 1),
}
CASES = {  # as in Stable Diffusion 3 (Flux's has the same keys), as in relatives of Stable Diffusion XL, TAESD, TAEF1
    "autoencoder_kl_sd3_like": (
        AutoencoderKL,
        {
            "latent_channels": 16,
            "scaling_factor": 1.5305,
            "shift_factor": 0.0609,
            "use_quant_conv": False,
            "use_post_quant_conv": False,
            **KL,
        },
    ),
    "autoencoder_kl_latents_mean": (
        AutoencoderKL,
        {
            "scaling_factor": 0.13025,
            "latents_mean": [-1.5, 2.25, 0.125, -0.5],
            "latents_std": [0.5, 2.0, 1.25, 0.8],
            **KL,
        },
    ),
    "autoencoder_tiny": (AutoencoderTiny, TINY),
    "autoencoder_tiny_flux_like": (AutoencoderTiny, {"latent_channels": 16, "act_fn": "mish", **TINY}),
}
for case, (cls, config) in CASES.items():
    torch.manual_seed(0)
    model = cls(**config).eval()
    rng = np.random.default_rng(0)
    for parameter in model.parameters():
        parameter.data += torch.tensor(0.05 * rng.standard_normal(tuple(parameter.shape)), dtype=torch.float32)
    images = torch.tensor(rng.uniform(-1.0, 1.0, (2, 3, 16, 24)), dtype=torch.float32)
    latents = torch.tensor(rng.standard_normal((2, config.get("latent_channels", 4), 4, 6)), dtype=torch.float32)
    arrays = {"images": images, "latents": latents}
    with torch.no_grad():
        encoded = model.encode(images)
        if cls is AutoencoderKL:
            arrays["mean"], arrays["logvar"] = encoded.latent_dist.mean, encoded.latent_dist.logvar
        else:
            arrays["mean"], arrays["bytes"] = encoded.latents, model.scale_latents(latents).mul(255).round().byte()
            arrays["from_bytes"] = model.unscale_latents(arrays["bytes"] / 255.0)
        arrays["decoded"] = model.decode(latents).sample  # of latents that have their scale taken off
    model.save_pretrained(folder / case / "model")
    np.savez_compressed(folder / case / "io.npz", **{name: array.numpy() for name, array in arrays.items()})
    print(case, *(f"{name} {tuple(array.shape)}" for name, array in arrays.items()))
