"""Writes the golden files of this folder with transformers (Apache-2.0): tiny image encoders with random weights.

    pip install transformers torch
    python tests/golden/vision/write_vision.py

dinov2            Dinov2Model, positions learnt for 5×5 patches
dinov2_registers  Dinov2WithRegistersModel with gated feed-forward steps, as the giant has them
clip              CLIPModel, text encoder and all

Each folder has `config.json` and weights as transformers writes them; `io.npz` has pictures of 28 pixels, channels
first, and what the models make of them.
"""

from pathlib import Path

import numpy as np
import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
)

HERE = Path(__file__).parent
PICTURES = np.random.default_rng(0).standard_normal((2, 3, 28, 28)).astype("float32")

sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 7, "image_size": 35}
clip_sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
clip = CLIPConfig(
    text_config={**clip_sizes, "vocab_size": 12, "max_position_embeddings": 4},
    vision_config={**clip_sizes, "patch_size": 7, "image_size": 28},
    projection_dim=6,
)
registers = {"num_register_tokens": 3, "use_swiglu_ffn": True}
MODELS = {
    "dinov2": Dinov2Model(Dinov2Config(**sizes, mlp_ratio=3)),
    "dinov2_registers": Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**sizes, **registers)),
    "clip": CLIPModel(clip),
}

generator = torch.Generator().manual_seed(0)
outputs = {"pictures": PICTURES}
for name, model in MODELS.items():
    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator) + (parameter.ndim == 1))
        pictures = torch.from_numpy(PICTURES)
        if name == "clip":
            vision = model.vision_model(pixel_values=pictures)
            out = model.visual_projection(vision.pooler_output)
        else:
            out = model(pixel_values=pictures).pooler_output
    model.save_pretrained(HERE / name)
    outputs[name] = out.numpy()
np.savez(HERE / "io.npz", **outputs)
