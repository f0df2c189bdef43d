"""Writes the golden files of this folder with transformers (Apache-2.0): a tiny T5EncoderModel with random weights.

    pip install transformers torch
    python tests/golden/t5/write_t5.py

Weights in two files with an index, `config.json`, and `io.npz`: tokens with padding, and the last hidden states.
"""

from pathlib import Path

import numpy as np
import torch
from transformers import T5Config, T5EncoderModel

HERE = Path(__file__).parent

torch.manual_seed(0)
sizes = {"vocab_size": 20, "d_model": 8, "d_kv": 3, "d_ff": 10, "num_layers": 2, "num_heads": 2}
distances = {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 10}
model = T5EncoderModel(T5Config(**sizes, **distances, feed_forward_proj="gated-gelu")).eval()
with torch.no_grad():
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape) * 0.5 + (parameter.ndim == 1))
tokens = np.array([[5, 9, 3, 17, 2, 11, 19, 4, 8, 6, 13, 7, 12, 1], [3, 2, 14, 1, *[0] * 10]])
with torch.no_grad():
    given = torch.from_numpy(tokens)
    out = model(input_ids=given, attention_mask=(given != 0).long()).last_hidden_state
model.save_pretrained(HERE, max_shard_size="2KB")
np.savez(HERE / "io.npz", tokens=tokens.astype("int32"), out=out.numpy())
