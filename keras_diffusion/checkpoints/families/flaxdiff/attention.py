"""Which attention blocks FlaxDiff's U-Nets have, read off names and shapes.

    down_i_attention_j/RMSNorm_0, project_in, project_out         `norm_inputs`, `use_projection`
                      /Attention/Attention1, Attention2, norm3    now: to itself, to the text, not only attention
                      /Attention/to_q, to_k, to_v, to_out_0       July 2024: one attention; flash if to_q has 2 axes

In July 2024, flash attention took the text where a level's height H exceeded the number T of its tokens (coarse levels
and the middle saw themselves). Kernels of to_k and to_v tell: they take the text's width or the level's. Where both are
the same number the neighbouring levels tell, for H falls from level to level, or `config` with "image_shape_hwc" and
"text_shape".
"""

import re

from keras_diffusion.checkpoints.families.flaxdiff.common import must_agree, pairs
from keras_diffusion.containers.errors import CheckpointError

_PROJECTIONS = {"to_q": "to_q", "to_k": "to_k", "to_v": "to_v", "to_out": "to_out_0"}
_UNUSED = re.compile(r".*attention_\d+/MultiHeadAttention_0/")


def attention_of(container, shapes, found, arguments, facts, options, head):
    """Arguments of `FlaxUNet` that concern attention.

    Args:
        container: the opened checkpoint, for errors.
        shapes: dict from the weights' names to their shapes.
        found: the arguments that are known: "widths", "num_res_blocks", "num_middle_res_blocks".
        arguments: what the user says, in FlaxDiff's words.
        facts: what the user says beside them.
        options: what all blocks have.
        head: whether the code is of August 2024 or later.

    Returns:
        (dict with "attention", "middle_attention", "context_dim", list of sentences for the report).
    """
    levels, j = len(found["widths"]), found["num_res_blocks"] - 1
    paths = [(f"down_{i}_attention_{j}/", f"up_{levels - 1 - i}_attention_{j}/") for i in range(levels)]
    middle = f"middle_attention_{found['num_middle_res_blocks'] - 1}/"
    said = arguments.get("attention_configs")
    said = list(said) if isinstance(said, (list, tuple)) and len(said) == levels else [{}] * levels
    there = [any(name.startswith(path) for name in shapes for path in pair) for pair in paths]
    if "attention_configs" in arguments:
        must_agree(container, "levels with attention", [entry is not None for entry in said], there)
    read = _Head(container, shapes, options) if head else _July(container, shapes, options, paths, facts)
    entries = [read.entry(i, pair, said[i] or {}) if there[i] else None for i, pair in enumerate(paths)]
    middle_entry = (
        read.entry(None, (middle,), said[-1] or {}) if any(name.startswith(middle) for name in shapes) else None
    )
    used = any(entry and entry["cross_attention"] for entry in (*entries, middle_entry))
    attention = {"attention": entries if any(entries) else None, "middle_attention": middle_entry}
    return {**attention, "context_dim": read.context_dim if used else None}, read.notes


def unused_by_attention(shapes):
    """Names of weights that FlaxDiff's code held and did not use."""
    names = {name for name in shapes if _UNUSED.match(name)}
    for name in shapes:
        if name.endswith("/Attention/to_k/kernel"):
            # One key only: softmax gives it all, whatever query and key are.
            block = name.removesuffix("to_k/kernel")
            names |= {f"{block}{part}/kernel" for part in ("to_q", "to_k")}
    return names


def attention_layers(layer, name, head, middle=""):
    """Pairs (layer, name in the file) of a `FlaxTransformerBlock`."""
    parts = {"RMSNorm_0": layer.norm_in}
    parts |= {f"{part}{middle}": getattr(layer, part) for part in ("project_in", "project_out")}
    for number in (1, 2):
        attention, place = getattr(layer, f"attention{number}"), f"Attention/Attention{number}" if head else "Attention"
        if attention is not None:
            parts |= {f"{place}/{leaf}": getattr(attention, key) for key, leaf in _PROJECTIONS.items()}
    parts |= {f"Attention/{part}": getattr(layer, part, None) for part in ("norm1", "norm2", "norm3")}
    if not layer.only_pure_attention:
        parts |= {"Attention/ff/net_0/proj": layer.feed_forward1, "Attention/ff/net_2": layer.feed_forward2}
    return pairs(name, parts)


class _Head:
    """Blocks of the code since August 2024."""

    def __init__(self, container, shapes, options):
        self.container, self.shapes, self.options = container, shapes, options
        self.context_dim, self.notes = None, []

    def entry(self, level, paths, said):
        """Options of the block at one of `paths`, all of one level (None: the middle)."""
        path = next(path for path in paths if any(name.startswith(path) for name in self.shapes))
        block = f"{path}Attention/"
        query = self._shape(f"{block}Attention2/to_q/kernel")
        if len(query) != 3:
            raise CheckpointError(
                "Of FlaxDiff's flash attention since August 2024, which runs on TPUs only, the number of heads is not "
                "in the file and the softmax has another scale: it is not supported. Received: "
                f"{block}Attention2/to_q of shape {query}",
                self.container.path,
            )
        self.context_dim = self._shape(f"{block}Attention2/to_k/kernel")[0]
        return {
            **self.common(path, said, query[1]),
            "cross_attention": True,
            "use_self_and_cross": f"{block}Attention1/to_q/kernel" in self.shapes,
            "only_pure_attention": f"{block}norm3/scale" not in self.shapes,
            "explicitly_add_residual": bool(said.get("explicitly_add_residual", True)),
        }

    def common(self, path, said, heads):
        """Options that all eras have."""
        if heads is not None and "heads" in said:
            must_agree(self.container, f"heads of {path[:-1]}", said["heads"], heads)
        projected = any(f"{path}project_in{end}/kernel" in self.shapes for end in ("", "_conv"))
        norm = f"{path}RMSNorm_0/scale" in self.shapes
        return {**self.options, "num_heads": heads or 1, "use_projection": projected, "norm_inputs": norm}

    def _shape(self, name):
        if name not in self.shapes:
            raise CheckpointError(
                f"An attention block of FlaxDiff's U-Net has {name!r}, and the file lacks it.", self.container.path
            )
        return self.shapes[name]


class _July(_Head):
    """Blocks of July 2024."""

    def __init__(self, container, shapes, options, paths, facts):
        super().__init__(container, shapes, options)
        image, text = facts.get("image_shape_hwc"), facts.get("text_shape")
        self.height, self.tokens = (image or (None,))[0], (text or (None,))[0]
        inputs = [self._inputs(pair) for pair in paths]
        widths = {keys for level in inputs for query, keys in level if keys != query}
        if len(widths) > 1:
            raise CheckpointError(f"All levels take the same text. Received: widths {sorted(widths)}", container.path)
        self.context_dim = widths.pop() if widths else (text or (None, None))[-1]
        # By level: whether it takes the text for sure; whether it sees itself for sure.
        self.takes = [any(keys != query for query, keys in level) for level in inputs]
        self.refuses = [any(keys == query != self.context_dim for query, keys in level) for level in inputs]

    def entry(self, level, paths, said):
        path = next(path for path in paths if any(name.startswith(path) for name in self.shapes))
        query = self._shape(f"{path}Attention/to_q/kernel")
        flash = len(query) == 2
        text = flash and level is not None and self._takes_text(level)
        over = {(False, False): "rows", (True, False): "columns", (True, True): "text_columns"}[flash, text]
        return {
            **self.common(path, said, None if flash else query[1]),
            "cross_attention": text,
            "only_pure_attention": True,
            "attention_over": over,
        }

    def _inputs(self, paths):
        """Widths that queries and keys take, of the flash attention blocks at `paths`."""
        names = [(f"{path}Attention/to_q/kernel", f"{path}Attention/to_k/kernel") for path in paths]
        pairs = [(self.shapes[q], self.shapes[k]) for q, k in names if q in self.shapes and k in self.shapes]
        return [(query[0], key[0]) for query, key in pairs if len(query) == 2]

    def _takes_text(self, level):
        if self.takes[level] or self.refuses[level]:
            return self.takes[level]
        if self.height is not None and self.tokens is not None:
            return (self.height >> level) > self.tokens
        if any(self.takes[level:]) or any(self.refuses[: level + 1]) or self.context_dim is None:
            return any(self.takes[level:])
        self.notes.append(
            f"Assumed: level {level} takes the text; its width {self.context_dim} is also the level's "
            "(to decide: config={'image_shape_hwc': …, 'text_shape': …})."
        )
        return True
