"""Writes the files beside it: the same few arrays in every format of Flax, diffusers, PyTorch and EDM.

Run with flax 0.12.8, orbax-checkpoint 0.12.8, jax 0.10.2, safetensors 0.8.0 and torch 2.13.0: python write.py
"""

import json
import pickle
import shutil
import sys
import types
from pathlib import Path

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import safetensors.torch
import torch

HERE = Path(__file__).parent
rng = np.random.default_rng(0)
KERNEL, BIAS, GAIN = (rng.standard_normal(shape).astype("float32") for shape in ((3, 3, 2, 4), (4,), (8, 2)))
TORCH = {
    "conv.weight": torch.tensor(KERNEL.transpose(3, 2, 0, 1).copy()),
    "conv.bias": torch.tensor(BIAS),
    "norm.weight": torch.tensor(GAIN),
}


def folder(name):
    path = HERE / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1) + "\n")


def flax_files():
    params = {"conv": {"kernel": jnp.array(KERNEL), "bias": jnp.array(BIAS)}, "norm": {"scale": jnp.array(GAIN)}}
    state = {
        "step": np.int32(7),
        "params": {"params": params},
        "opt_state": [{"count": jnp.array(3)}, None],
        "rngs": jnp.array([1, 2], "uint32"),
    }
    formats = {name: jnp.array(GAIN, name) for name in ("bfloat16", "float16")} | {
        "mask": jnp.array(GAIN > 0),
        "lr": 0.5,
        "name": "tiny",
    }
    (HERE / "flax_model.msgpack").write_bytes(
        flax.serialization.msgpack_serialize({**params, "formats": formats, "none": None})
    )
    flax.serialization.MAX_CHUNK_SIZE = 64
    (HERE / "chunked.msgpack").write_bytes(
        flax.serialization.msgpack_serialize({**params, "half": jnp.array(GAIN, "bfloat16")})
    )
    flax.serialization.MAX_CHUNK_SIZE = 2**30
    whole = {"best_loss": 0.25, "model": None, "state": state, "best_state": jax.tree.map(lambda x: x * 2, state)}
    run = folder("ocdbt")
    ocp.PyTreeCheckpointer().save(run / "5" / "default", whole)
    for path in (
        "commit_success.txt",
        "_sharding",
        "array_metadatas/process_0",
    ):  # they name folders and devices of the machine
        (run / "5/default" / path).unlink()
    run = folder("aggregated")
    for step, tree in ((5, {**whole, "best_loss": 0.5}), (10, whole)):
        item = run / str(step) / "default"
        item.mkdir(parents=True)
        metadata = json.loads((HERE / "ocdbt/5/default/_METADATA").read_text())
        write_json(item / "_METADATA", {"tree_metadata": metadata["tree_metadata"]})
        (item / "checkpoint").write_bytes(flax.serialization.msgpack_serialize(tree))
        write_json(run / str(step) / "_CHECKPOINT_METADATA", {"init_timestamp_nsecs": 1, "commit_timestamp_nsecs": 2})


def diffusers_files():
    pipeline = folder("pipeline")
    write_json(
        pipeline / "model_index.json",
        {
            "_class_name": "TinyPipeline",
            "vae": ["diffusers", "AutoencoderKL"],
            "unet": ["diffusers", "UNet2DModel"],
            "scheduler": ["diffusers", "DDPMScheduler"],
            "safety_checker": [None, None],
        },
    )
    for name in ("unet", "unet_ema", "vae"):
        write_json(
            folder(f"pipeline/{name}") / "config.json",
            {"_class_name": "AutoencoderKL" if name == "vae" else "UNet2DModel", "in_channels": 2},
        )
    write_json(
        folder("pipeline/scheduler") / "scheduler_config.json",
        {"_class_name": "DDPMScheduler", "prediction_type": "v_prediction"},
    )
    doubled = {name: 2 * tensor for name, tensor in TORCH.items()}
    safetensors.torch.save_file(TORCH, pipeline / "unet/diffusion_pytorch_model.safetensors", {"format": "pt"})
    safetensors.torch.save_file(
        {k: v.half() for k, v in TORCH.items()}, pipeline / "unet/diffusion_pytorch_model.fp16.safetensors"
    )
    torch.save(doubled, pipeline / "unet/diffusion_pytorch_model.bin")
    safetensors.torch.save_file(
        {k: v.bfloat16() for k, v in doubled.items()}, pipeline / "unet_ema/diffusion_pytorch_model.safetensors"
    )
    names, files = list(TORCH), [f"diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for part, file in zip((names[:1], names[1:]), files):
        safetensors.torch.save_file({name: TORCH[name] for name in part}, pipeline / "vae" / file)
    write_json(
        pipeline / "vae/diffusion_pytorch_model.safetensors.index.json",
        {"metadata": {"total_size": 0}, "weight_map": {names[0]: files[0], names[1]: files[1], names[2]: files[1]}},
    )


def torch_files():
    states = {"step": 7, "model": TORCH, "ema": {name: 2 * tensor for name, tensor in TORCH.items()}}
    torch.save(states, HERE / "model.pt")
    torch.save(states, HERE / "legacy.pt", _use_new_zipfile_serialization=False)


def edm_file():
    """A network that is pickled as EDM's torch_utils.persistence does it."""

    def _reconstruct_persistent_obj(meta):
        raise NotImplementedError

    stand_in = types.ModuleType("torch_utils.persistence")
    stand_in._reconstruct_persistent_obj = _reconstruct_persistent_obj
    _reconstruct_persistent_obj.__module__, _reconstruct_persistent_obj.__qualname__ = (
        "torch_utils.persistence",
        "_reconstruct_persistent_obj",
    )
    sys.modules |= {"torch_utils": types.ModuleType("torch_utils"), "torch_utils.persistence": stand_in}

    class Net(torch.nn.Module):
        def __init__(self, **kwargs):
            super().__init__()
            self._init_args, self._init_kwargs = (), kwargs
            self.conv = torch.nn.Conv2d(2, 4, 3)
            self.norm = torch.nn.GroupNorm(1, 2)
            self.norm.weight = torch.nn.Parameter(TORCH["norm.weight"])
            self.norm.bias = None
            self.conv.load_state_dict({"weight": TORCH["conv.weight"], "bias": TORCH["conv.bias"]})

        def __reduce__(self):
            meta = {
                "type": "class",
                "version": 6,
                "module_src": "raise SystemExit",
                "class_name": "EDMPrecond",
                "state": self.__dict__,
            }
            return _reconstruct_persistent_obj, (meta,), None

    (HERE / "edm.pkl").write_bytes(
        pickle.dumps({"ema": Net(img_resolution=8, label_dim=0), "dataset_kwargs": {"path": "a.zip"}})
    )


for write in (flax_files, diffusers_files, torch_files, edm_file):
    write()
np.savez(HERE / "weights.npz", kernel=KERNEL, bias=BIAS, gain=GAIN)
