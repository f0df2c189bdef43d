"""`keras-diffusion inspect`, `convert` and `export`: checkpoints of other systems."""

from pathlib import Path

from rich.table import Table

from keras_diffusion import checkpoints
from keras_diffusion.checkpoints import own
from keras_diffusion.cli.config import ConfigError
from keras_diffusion.cli.information import print_rows
from keras_diffusion.configs.checks import clip
from keras_diffusion.runtime.documents import parse_json


def read_old_config(text):
    """`--config` as a dict: JSON, or the path of a JSON file, which may have the arguments under the key "config"."""
    if text is None:
        return None
    content = text if text.lstrip().startswith("{") else _read(text)

    def error(message):
        return ConfigError(
            "--config is JSON, or a file with JSON: the old model's arguments. Received: "
            f"--config {clip(text, 300)}: {message}"
        )

    value = parse_json(content, "text", error, kind=object)
    if not isinstance(value, dict):
        raise ConfigError(f"--config is a dict of the old model's arguments. Received: --config {clip(text, 300)}")
    return value["config"] if isinstance(value.get("config"), dict) else value


def _read(path):
    if not Path(path).is_file():
        raise ConfigError(f"--config is JSON, or a file with JSON. Received: --config {path}, which does not exist")
    return Path(path).read_text(encoding="utf-8")


def inspect(console, path, config=None, match=None, as_json=False):
    """Prints what a checkpoint holds.

    Args:
        console: `rich.console.Console`.
        path: as in `checkpoints.load`.
        config: text, see `read_old_config`.
        match: shows only tensors whose names contain this. Default: all.
        as_json: whether to print JSON in place of tables.
    """
    inspection = checkpoints.inspect(path, read_old_config(config))
    tensors = {name: info for name, info in inspection.tensors.items() if match is None or match in name}
    if as_json:
        listed = {name: {"shape": list(info.shape), "dtype": info.dtype} for name, info in tensors.items()}
        facts = {
            key: getattr(inspection, key)
            for key in ("path", "format", "family", "weights", "config", "metadata", "problem")
        }
        console.print_json(data={**facts, "parameters": inspection.parameters, "tensors": listed}, default=str)
        return
    print_rows(console, inspection.facts())
    table = Table("tensor", "shape", "type", box=None, padding=(0, 2, 0, 0))
    for name, info in tensors.items():
        table.add_row(name, " × ".join(map(str, info.shape)) or "–", info.dtype)
    console.print()
    console.print(table)


def convert(console, source, out, weights="ema", state="best", config=None, strict=True, overwrite=False):
    """Writes a checkpoint as a preset and prints the report.

    Arguments as in `checkpoints.convert`, with `config` as text.
    """
    report = checkpoints.convert(source, out, weights, state, read_old_config(config), strict, overwrite, verbose=0)
    console.print(str(report), markup=False, soft_wrap=True)
    # A text encoder or an autoencoder alone makes no samples.
    hint = f" Next: keras-diffusion sample {out}" if own.is_own(out) else ""
    console.print(f"Wrote {out}.{hint}", markup=False, soft_wrap=True)


def export(console, source, out, weights="ema", state="best", config=None, overwrite=False):
    """Writes a model (a preset, a `.keras` file, a checkpoint) as a folder of diffusers.

    Args:
        console: `rich.console.Console`.
        source: as in `checkpoints.load`.
        out: folder to create.
        weights, state: as in `checkpoints.load`.
        config: text, see `read_old_config`; for `checkpoints.load`.
        overwrite: whether an existing folder may be replaced.
    """
    loaded = checkpoints.load(source, weights, state, read_old_config(config), verbose=0)
    checkpoints.export(loaded, out, overwrite=overwrite)
    console.print(f"Wrote {out}, a folder of diffusers.", markup=False, soft_wrap=True)
