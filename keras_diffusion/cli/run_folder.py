"""The folder of one training run, complete in itself:

config.json        the whole configuration, defaults and inferred sizes written out: `train config.json` repeats the run
environment.json   versions, backend, devices and command lines, of the start and of every resumption
metrics.jsonl      one line per epoch                  samples/epoch-0010.png   pictures while training
state/             what resuming needs                 loss.png                 at the end
model/             the trained model as a preset, at the end
best/, best.json   the model of the best epoch, where scores are measured, and these
generated/         what `keras-diffusion sample`, `evaluate` and `sweep` write by default
"""

import contextlib
import datetime
from pathlib import Path

from keras_diffusion.cli.config import ConfigError, config_errors
from keras_diffusion.configs.checks import clip
from keras_diffusion.runtime.files import (
    is_leftover,
    read_json,
    remove_folder,
    remove_leftovers,
    unused_path,
    write_json,
)
from keras_diffusion.runtime.locks import NAME, FolderLock, FolderLocked
from keras_diffusion.runtime.training_state import RUN_MARK, is_marked, read_state

_ENTRIES = (
    *("config.json", "environment.json", "metrics.jsonl", "samples", "state", "model", "loss.png", "generated"),
    *("best", "best.json"),
)
_ENTRIES_OF_DEMO = ("results.json", "results.md", "digits-grid.png", "film-strip.png")


class RunFolder:
    """Paths and state of a run.

    Args:
        path: the folder; it need not exist.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.metrics, self.loss_curve = self.path / "metrics.jsonl", self.path / "loss.png"
        self.samples, self.state, self.model = (self.path / name for name in ("samples", "state", "model"))
        self.generated, self.best = self.path / "generated", self.path / "best"

    @property
    def exists(self):
        """Whether the folder has any content, other than what a start leaves that is stopped at once."""
        if not self.path.is_dir():
            return self.path.exists()
        entries = {entry.name for entry in self.path.iterdir() if not _is_passing(entry)}
        return bool(entries) and not (entries == {"environment.json"} and self.is_ours)

    @property
    def locks(self):
        """Whether a process trains here, or has left its lock."""
        return (self.path / NAME).exists()

    @property
    def is_ours(self):
        """Whether the folder was made by `train`.

        `environment.json` is the first file that `train` writes, and the last that it deletes.
        """
        return is_marked(self.path)

    @property
    def is_run(self):
        """Whether the folder holds a run that can be resumed."""
        return self.is_ours and (self.path / "config.json").is_file()

    @property
    def config(self):
        return read_json(self.path / "config.json", ConfigError)

    @property
    def environment(self):
        return read_json(self.path / "environment.json", ConfigError)

    def _saved(self, key, default):
        """An entry of the saved state, or `default` without one."""
        with contextlib.suppress(FileNotFoundError):
            return read_state(self.state, ConfigError).get(key) or default
        return default

    @property
    def epochs_done(self):
        """Finished epochs in the saved state; 0 without one."""
        return self._saved("epoch", 0)

    @property
    def step_done(self):
        """Finished steps of the next epoch in the saved state; 0 if it was saved at the end of an epoch."""
        return self._saved("step", 0)

    @property
    def weights(self):
        """Path of the weights of the saved state, or None without one."""
        name = self._saved("weights", None)
        return name and self.state / name

    @property
    def finished(self):
        """Whether training has finished."""
        return (self.model / "config.json").is_file()

    @contextlib.contextmanager
    def only_config_errors(self):
        """A context for using the files of the run: if they are not as `train` writes them, it is a ConfigError."""
        try:
            yield
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            damage = f"{type(error).__name__}: {error}"
            raise ConfigError(clip(f"The files of the run in {str(self.path)!r} are damaged: {damage}")) from error

    def require_run(self):
        """Raises a ConfigError unless this is the folder of a run."""
        if not self.is_run:
            what = "which holds no config.json and environment.json of a run"
            if not self.path.exists():
                what = "which does not exist"
            elif self.path.is_dir() and not self.exists:
                what = "in which none was started. Start it without --resume"
            raise ConfigError(
                f"A run is a folder made by `keras-diffusion train`. Received: {str(self.path)!r}, {what}."
            )

    def check_free(self, overwrite):
        """Raises a ConfigError unless a new run may be put here: nothing there, or a run and `overwrite`."""
        if not self.exists:
            return
        if not overwrite:
            remedy = "--overwrite deletes it first" if self.is_ours else "choose another folder with --out"
            remedy = f"--resume continues it, {remedy}" if self.is_run else remedy
            raise ConfigError(
                f"A run starts in a new or empty folder. Received: {str(self.path)!r}, which is not empty; {remedy}."
            )
        if not self.is_ours:
            raise ConfigError(
                f"--overwrite only deletes folders made by `keras-diffusion train`. Received: {str(self.path)!r}, "
                "which is none. Choose another folder with --out, or delete this one yourself."
            )
        known = (*_ENTRIES, *_ENTRIES_OF_DEMO)
        foreign = sorted(
            entry.name for entry in self.path.iterdir() if entry.name not in known and not _is_passing(entry)
        )
        if foreign:
            raise ConfigError(
                f"--overwrite does not delete what a run has not written. Received: {str(self.path)!r} with "
                f"{', '.join(foreign)}. "
                "Move these away, or choose another folder with --out."
            )

    @contextlib.contextmanager
    def locked(self):
        """A context in which no other process trains in this folder; a folder that stays empty is removed at its end.

        Raises:
            ConfigError: another one does.
        """
        new = not self.path.exists()
        try:
            with config_errors(kinds=FolderLocked), FolderLock(self.path):
                yield
        finally:
            if new and self.path.is_dir():
                with contextlib.suppress(OSError):  # not empty
                    self.path.rmdir()

    def create(self, config, environment, overwrite=False):
        """Starts a run here. If the process is killed meanwhile, another run can be started in the folder."""
        self.check_free(overwrite)
        self.path.mkdir(parents=True, exist_ok=True)
        self._tidy()
        # First: the rest is then no run any more, but environment.json still says where it comes from.
        (self.path / "config.json").unlink(missing_ok=True)
        for entry in sorted(self.path.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                remove_folder(entry)
            elif entry.name not in ("environment.json", NAME):
                entry.unlink()
        self.write("environment.json", {"kind": RUN_MARK, **environment, "resumed": []})
        self.write("config.json", config)

    def continue_with(self, config, environment):
        """Records a resumption.

        A finished model is deleted: its weights are in the state too, and it is written again at the end.
        """
        self._tidy()
        started = self.environment
        resumed = started.get("resumed") if isinstance(started.get("resumed"), list) else []
        self.write("environment.json", {**started, "resumed": [*resumed, environment]})
        self.write("config.json", config)
        remove_folder(self.model)
        self.loss_curve.unlink(missing_ok=True)

    def _tidy(self):
        """Removes what killed processes left incomplete."""
        for folder in (self.path, self.state, self.samples):
            remove_leftovers(folder)

    def write(self, name, value):
        write_json(self.path / name, value)


def _is_passing(entry):
    """Whether a file or folder is the lock, or temporary."""
    return entry.name == NAME or is_leftover(entry)


def default_folder(config_path):
    """`runs/<date>-<name of the configuration>`, followed by -2, -3 … if that exists already."""
    config_path = Path(config_path)
    name = config_path.resolve().parent.name if config_path.name == "config.json" else config_path.stem
    return unused_path(Path("runs") / f"{datetime.date.today().isoformat()}-{name}")
