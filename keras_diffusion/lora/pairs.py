"""Files of adapters (LoRA): pairs of matrices, and the kernel that each pair belongs to.

    W + (α/r)·A·B        A (in, r) and B (r, out) here; there (r, in) and (out, r), called A and B, down and up

    PEFT, diffusers   unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight, …lora_B.weight
    older diffusers   …attn1.processor.to_q_lora.down.weight, …attn1.to_q.lora.up.weight,
                      …attn1.to_q.lora_linear_layer.down.weight
    kohya             lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight,
                      ….lora_up.weight, ….alpha
    this library      diffusers' names where diffusers has the network; else network.<path of the layer>.lora_A.weight

α is a tensor `….alpha`; or, in PEFT's way, a number in `lora_adapter_metadata` of the header or in
`adapter_config.json` beside the file; or it is r.

References: Hu et al., arXiv:2106.09685; diffusers, loaders/lora_pipeline.py, PEFT, tuners/lora/config.py, kohya-ss,
networks/lora.py.
"""

import math
import re
from typing import NamedTuple

import numpy as np

from keras_diffusion.checkpoints.transfer import some
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.containers.named_tensors import read_json_file
from keras_diffusion.runtime.documents import parse_json

OWN_KEY = (
    "keras_diffusion_lora"  # in the header: α of the layers here, by the names of the file; B is written with α/r in it
)
_DIFFUSERS_KEY = "lora_adapter_metadata"
_PEFT_PREFIX = "base_model.model."
_KOHYA = {"lora_unet_": "unet", "lora_te_": "text_encoder"}
PREFIXES = ("unet", "transformer", "text_encoder", "vae", "network")
_FORMS = (
    re.compile(r"(?P<module>.+)\.lora_(?P<kind>A|B|down|up)(?:\.default)?\.weight"),
    re.compile(r"(?P<module>.+?)(?:\.lora_linear_layer|\.lora|_lora)\.(?P<kind>down|up)\.weight"),
    re.compile(r"(?P<module>.+?)(?:\.lora_linear_layer|\.lora|_lora)?\.(?P<kind>alpha)"),
)
_KINDS = {"A": "down", "B": "up", "down": "down", "up": "up", "alpha": "alpha"}


class Pair(NamedTuple):
    """An adapter of a file.

    Attributes:
        name: of the module, as the file has it.
        down, up: arrays (r, in) and (out, r), or kernels of convolutions (r, in, h, w) and (out, r, 1, 1).
        strength: what their product is multiplied by: α/r.
        alpha: α of a layer here, a number.
    """

    name: str
    down: np.ndarray
    up: np.ndarray
    strength: float
    alpha: float


def read_pairs(container):
    """All adapters of an opened file.

    Args:
        container: the file.

    Returns:
        list of `Pair`.

    Raises:
        CheckpointError: tensors that are no part of an adapter, halves of adapters, matrices that do not multiply, an α
            that is not > 0.
    """
    found, strange = {}, []
    for name in container.tensors:
        match = next(filter(None, (form.fullmatch(name) for form in _FORMS)), None)
        if match is None:
            strange.append(name)
        else:
            found.setdefault(match["module"], {})[_KINDS[match["kind"]]] = name
    if strange:
        raise CheckpointError(
            f"A file of adapters holds pairs of matrices and alphas. Received {len(strange)} other "
            f"tensors: {some(strange, 4)}. Other kinds of adapters (DoRA, LoHa, LoKr, textual "
            "inversion) and whole models are not read here",
            container.path,
        )
    halves = [name for name, parts in found.items() if not {"down", "up"} <= set(parts)]
    if halves or not found:
        raise CheckpointError(
            f"An adapter is a pair of matrices. Received one alone for: {some(halves, 4) or 'nothing at all'}.",
            container.path,
        )
    alphas = _alphas(container, found)
    return [_read(container, name, parts, alphas) for name, parts in found.items()]


def _read(container, name, parts, alphas):
    down, up = (container.read(parts[kind]).astype("float32") for kind in ("down", "up"))
    rank = down.shape[0] if down.ndim in (2, 4) else 0
    if rank < 1 or up.ndim not in (2, 4) or up.shape[1] != rank or up.shape[2:] not in ((), (1, 1)):
        raise CheckpointError(
            "An adapter is a pair (r, in) and (out, r). Received: "
            f"{tuple(down.shape)} and {tuple(up.shape)} for {name}.",
            container.path,
        )
    alpha = float(container.read(parts["alpha"]).reshape(-1)[0]) if "alpha" in parts else alphas("told", name, rank)
    if not (alpha > 0 and math.isfinite(alpha)):
        raise CheckpointError(f"The alpha of an adapter is a number > 0. Received: {alpha} for {name}.", container.path)
    return Pair(name, down, up, alpha / rank, alphas("here", name, alpha))


def split_name(name):
    """A name in a file, taken apart.

    Args:
        name: of a module, "unet.mid_block.…"; kohya's names have no points.

    Returns:
        (part, module), such as ("unet", "mid_block.…"); the part is None where the name has no prefix.
    """
    for prefix, part in _KOHYA.items():
        if name.startswith(prefix):
            return part, name.removeprefix(prefix)
    name = name.removeprefix(_PEFT_PREFIX)
    first, _, rest = name.partition(".")
    part, module = (first, rest) if first in PREFIXES and rest else (None, name)
    return part, module.replace(".processor.", ".")


def _alphas(container, found):
    """Function of (which, name, default): the α of a module in the file, or of the layer here."""
    told = {}
    for key in (OWN_KEY, _DIFFUSERS_KEY):
        try:
            told[key] = parse_json(container.metadata.get(key, "{}"))
        except (TypeError, ValueError) as error:
            raise CheckpointError(
                f"The entry {key!r} of the header should be a JSON object: {error}", container.path
            ) from error
    settings = told[_DIFFUSERS_KEY]
    if any(name.startswith(_PEFT_PREFIX) for name in found) and not settings:
        beside = container.path.with_name("adapter_config.json")
        if not beside.is_file():
            raise CheckpointError(
                "PEFT keeps alpha in adapter_config.json, and there is none beside this file. Put it there.",
                container.path,
            )
        settings = read_json_file(beside)

    def alpha(which, name, default):
        if which == "here":
            return float(told[OWN_KEY].get(name, default))
        part, module = split_name(name)
        own = {key.removeprefix(f"{part}."): value for key, value in settings.items()}
        return default if not settings else _peft_alpha(own, module, default, container.path)

    return alpha


def _peft_alpha(settings, module, rank, path):
    """What PEFT's settings say for one module, as the α that α/r is made of."""
    alpha = settings.get("lora_alpha", rank)
    for pattern, value in (settings.get("alpha_pattern") or {}).items():
        if not re.fullmatch(r"[\w.]+", pattern):
            raise CheckpointError(
                f"Names of modules are read in `alpha_pattern`, not expressions. Received: {pattern!r}.", path
            )
        alpha = value if f".{module}".endswith(f".{pattern}") else alpha
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)):
        raise CheckpointError(f"The alpha of an adapter is a number > 0. Received: {alpha!r} for {module}.", path)
    # Kalajdzievski 2023, arXiv:2312.03732: α/√r in place of α/r.
    return alpha * math.sqrt(rank) if settings.get("use_rslora") else alpha
