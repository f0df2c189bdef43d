"""`hf://organization/name[/component][@revision]`: models on the Hugging Face Hub, fetched with its own client, which
keeps them.

Of the files that a repository has, only what `load` takes is fetched: configs, the tokenizer, and for each component
one kind of weights.
"""

from pathlib import Path

from keras_diffusion.configs.checks import check_path
from keras_diffusion.containers.diffusers_folder import weights_to_take
from keras_diffusion.runtime.optional import import_optional

PREFIX = "hf://"
_PLAIN = (
    "model_index.json",
    "config.json",
    "scheduler_config.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
)


def local_path(path):
    """`path` itself, or the folder that a `hf://` address was fetched into.

    Args:
        path: what `load` takes.

    Raises:
        ValueError: no path, an address without organization or name.
        ImportError: an address, and no huggingface_hub.
    """
    check_path("path", path)
    if not isinstance(path, str) or not path.startswith(PREFIX):
        return path
    address, _, revision = path.removeprefix(PREFIX).partition("@")
    parts = address.strip("/").split("/")
    if len(parts) < 2 or not all(parts):
        raise ValueError(
            f"An address on the Hub is hf://organization/name, with a component behind it or not. Received: {path!r}"
        )
    repository, component = "/".join(parts[:2]), "/".join(parts[2:])
    hub = import_optional("huggingface_hub", "hub", "models on the Hugging Face Hub")
    files = wanted(hub.list_repo_files(repository, revision=revision or None), component)
    folder = hub.snapshot_download(repository, revision=revision or None, allow_patterns=files)
    return str(Path(folder) / component)


def wanted(files, component=""):
    """The files that `load` needs, out of all files of a repository.

    Args:
        files: paths in the repository.
        component: folder of the component asked for; "" (default) for all.
    """
    folders: dict[str, list[str]] = {}
    for file in files:
        folder, _, name = file.rpartition("/")
        folders.setdefault(folder, []).append(name)
    taken = []
    for folder, names in folders.items():
        plain = [name for name in names if name in _PLAIN]
        inside = not component or folder == component
        if not inside and folder not in ("", "scheduler"):
            continue
        taken += [f"{folder}/{name}".lstrip("/") for name in plain + (weights_to_take(names) if inside else [])]
    return sorted(taken)
