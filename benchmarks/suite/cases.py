"""What is measured: networks as FlaxDiff or diffusers builds them, so that both sides do the same work.

| case | network | samples | what it stands for |
|---|---|---|---|
| a | U-Net as large as that of `examples/digits.toml` | 8×8×1 | digits: overheads weigh most |
| a1, a4 | the same | one sample, four samples | what each call costs besides computing |
| b | U-Net, 2 million weights | 32×32×3 | small images |
| c | U-Net, 36 million weights | 64×64×3 | the network alone counts |
| d | DiT-S/2, 33 million weights | 32×32×4 | latents of 256×256 images |
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Case:
    """One network at one size.

    Attributes:
        peer: "flaxdiff" or "diffusers".
        network: name of the peer's class.
        config: its arguments.
        shape: of one sample, `(H, W, C)`.
        batch: samples at once, when sampling.
        train_batch: samples of a training step; 0 where training is not measured.
        steps: sampling steps.
    """

    peer: str
    network: str
    config: dict
    shape: tuple
    batch: int
    train_batch: int
    steps: int = 50


_HEADS = {"heads": 4}
_BLOCKS = {"layers_per_block": 2, "norm_num_groups": 32}


def _flax_unet(emb, depths, attention, blocks=2, channels=3):
    sizes = {"emb_features": emb, "feature_depths": depths, "num_res_blocks": blocks, "output_channels": channels}
    return {**sizes, "attention_configs": attention}


def _unet_2d(size, widths):
    levels = len(widths)
    attention = [i == levels - 1 for i in range(levels)]
    return {
        **_BLOCKS,
        "sample_size": size,
        "block_out_channels": widths,
        "down_block_types": tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attention),
        "up_block_types": tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attention)),
    }


CASES = {
    "a": Case("flaxdiff", "Unet", _flax_unet(256, (32, 64), (None, _HEADS), blocks=1, channels=1), (8, 8, 1), 16, 64),
    "b": Case("flaxdiff", "Unet", _flax_unet(256, (32, 64, 96), (_HEADS,) * 3), (32, 32, 3), 8, 16),
    "c": Case(
        "flaxdiff", "Unet", _flax_unet(256, (64, 128, 256, 512), (None, None, _HEADS, _HEADS)), (64, 64, 3), 2, 4, 10
    ),
    "d": Case(
        "flaxdiff",
        "SimpleDiT",
        {"patch_size": 2, "emb_features": 384, "num_layers": 12, "num_heads": 6, "output_channels": 4},
        (32, 32, 4),
        4,
        8,
        20,
    ),
    "b2": Case("diffusers", "UNet2DModel", _unet_2d(32, (32, 64, 64)), (32, 32, 3), 8, 0),
    "c2": Case("diffusers", "UNet2DModel", _unet_2d(64, (64, 128, 256, 384)), (64, 64, 3), 2, 0, 10),
}
CASES |= {f"a{batch}": replace(CASES["a"], batch=batch, train_batch=0) for batch in (1, 4)}
