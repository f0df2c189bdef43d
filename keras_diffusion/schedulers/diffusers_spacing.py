"""The grids of diffusers' schedulers: at which levels each of its classes evaluates the network, and which time the
network receives there.

Three rules make nearly all of them, for n steps on T timesteps:

    kind       linspace                     leading                    trailing         σ/α there
    table      n whole ones from T−1 to 0   every (T // n)-th          T−1, T−1−T/n, …  the table's
    sigma      the same, fractional         the same                   the same         interpolated
    solver     n+1 whole ones, less the     every (T // (n + 1))-th,   the same         the table's
               last                         less the last

Where `curve` is given, σ/α are spaced by it between the ends, and the timesteps follow from them, as they are or made
whole: the network then receives another time than that of its noise level. "consistency" and "flow" are LCM's and flow
matching's own.
"""

import numpy as np

from keras_diffusion.configs.checks import check_choice, check_flag, check_number, check_whole
from keras_diffusion.core.levels import Levels
from keras_diffusion.schedulers.sigma_spacing import BetaSpacing, ExponentialSpacing, KarrasSpacing
from keras_diffusion.schedulers.time_spacing import SPACINGS, Spacing, check_steps

_KINDS = ("table", "sigma", "solver", "consistency", "flow")
_CURVES = {"karras": KarrasSpacing, "exponential": ExponentialSpacing, "beta": BetaSpacing}
_TOLD = {"exact": np.asarray, "rounded": np.round, "truncated": np.trunc}
_LEAST_SQUARE = 2.0**-24  # ᾱ in place of 0, where diffusers works in σ/α


@SPACINGS.register("diffusers")
class DiffusersSpacing(Spacing):
    """A grid of diffusers; `checkpoints.load` sets it from `scheduler_config.json`.

    With one step "table" and "sigma" evaluate at the cleanest timestep under "linspace" and "leading", as diffusers
    does: take "trailing".

    Args:
        kind: "solver" (DPM-Solver, UniPC, DEIS, SA-Solver; default), "table" (DDIM, DDPM, PNDM), "sigma" (Euler, Heun,
            LMS, DPM-2, DPM-Solver SDE), "consistency" (LCM, TCD) or "flow" (flow matching).
        spacing: "linspace", "leading" or "trailing". Default "linspace".
        offset: added to the timesteps of "leading". Default 0.
        curve: None (default), "karras", "exponential" or "beta".
        told: the timesteps of a curve that the network receives: "exact" (default), or whole ones, "rounded" or
            "truncated".
        sigma_min, sigma_max: σ/α of a curve's ends. Default: those of the grid, or of the table for "solver".
        log_linear: σ/α even in the logarithm while the timesteps stay as they are. Default False.
        log_snr_min: levels of a lower log-SNR are left out, "solver" alone. Default: none.
        original_steps: number of steps of the grid that "consistency" picks from. Default 50.
        timesteps: T for schedules that are not discrete. Default 1000.

    Raises:
        ValueError: unknown names, "flow" with another schedule than that of flow matching, or more steps than fit.

    Example:

    >>> spacing = kd.schedulers.DiffusersSpacing(kind="sigma", spacing="leading", offset=1)
    >>> spacing(kd.schedulers.get("scaled_linear"), 4).round(3)
    array([0.752, 0.502, 0.252, 0.002, 0.   ])

    Reference:
        diffusers' schedulers, `set_timesteps` of each class; what the three rules are named after: Lin et al. 2023,
        arXiv:2305.08891, table 2.
    """

    def __init__(
        self,
        kind="solver",
        spacing="linspace",
        offset=0,
        curve=None,
        told="exact",
        sigma_min=None,
        sigma_max=None,
        log_linear=False,
        log_snr_min=None,
        original_steps=50,
        timesteps=1000,
    ):
        choices = {
            "kind": _KINDS,
            "spacing": ("linspace", "leading", "trailing"),
            "curve": (None, *_CURVES),
            "told": tuple(_TOLD),
        }
        for name, known in choices.items():
            check_choice(name, getattr(self, name), known)
        for name in ("sigma_min", "sigma_max", "log_snr_min"):
            check_number(name, getattr(self, name), optional=True, finite=name != "log_snr_min")
        check_whole("offset", offset, 0)
        check_flag("log_linear", log_linear)
        check_whole("original_steps", original_steps, 1)
        check_whole("timesteps", timesteps, 1)

    def times(self, schedule, num_steps, start, end):
        return self.levels(schedule, num_steps, start, end).t

    def levels(self, schedule, num_steps, start=1.0, end=0.0):
        check_steps(num_steps)
        t, alpha, sigma = (
            self._flow(schedule, num_steps, start, end)
            if self.kind == "flow"
            else self._timed(schedule, num_steps, start, end)
        )
        close = schedule.levels(end) if end else Levels(0.0, 1.0, 0.0)
        alpha, sigma = np.append(alpha, close.alpha), np.append(sigma, close.sigma)
        if np.any(t <= 0) or not np.all(np.diff(sigma / np.maximum(alpha, 1e-300)) < 0):
            raise ValueError(f"{num_steps} steps do not fit on this grid: levels would repeat. Take fewer steps.")
        return Levels(np.append(t, end), alpha, sigma)

    def _timed(self, schedule, num_steps, start, end):
        """(t, α, σ) on timesteps; schedules that are not discrete are looked at on T of them."""
        total = schedule.timesteps or self.timesteps
        grid = schedule.levels((np.arange(total) + 1.0) / total)
        with np.errstate(divide="ignore"):
            table = grid.sigma / grid.alpha
        if self.kind in ("sigma", "solver") and np.isinf(table[-1]):
            table[-1] = np.sqrt(1.0 / _LEAST_SQUARE - 1.0)
        first = round(end * total)
        last = max(first + 1, round(start * total))
        timesteps = np.minimum(self._timesteps(total, first, last, num_steps, table), last - 1)
        if np.any(timesteps < first):
            raise ValueError(f"{num_steps} steps do not fit on this grid. Take fewer steps.")
        # Whole timesteps have the table's own ratio; it may be infinite at the last one.
        whole = np.all(timesteps == np.round(timesteps))
        ratios = table[timesteps.astype(int)] if whole else np.interp(timesteps, np.arange(total), table)
        if self.log_linear:
            ratios = np.exp(np.linspace(np.log(table[last - 1]), np.log(table[first]), num_steps + 1))[:-1]
        if self.curve:
            ratios = self._curved(table[first:last][::-1] if self.kind == "solver" else ratios, num_steps)
            timesteps = _TOLD[self.told](
                np.interp(np.log(ratios), np.log(table), np.arange(total)) + (self.told == "truncated") * 1e-9
            )
        t = (timesteps + 1.0) / total
        if schedule.timesteps is None:
            return schedule.levels(
                schedule.time(-2.0 * np.log(ratios)) if self.curve or self.log_linear else t
            )._replace(t=t)
        with np.errstate(invalid="ignore"):
            return t, 1.0 / np.hypot(1.0, ratios), np.where(np.isinf(ratios), 1.0, ratios / np.hypot(1.0, ratios))

    def _timesteps(self, total, first, last, steps, table):
        """Timesteps of n steps, from `last` − 1 at most to `first` at least."""
        if self.kind == "consistency":
            stride = total // self.original_steps
            origin = np.arange(1, int(self.original_steps * last / total) + 1) * stride - 1
            origin = origin[origin >= first]
            if steps > len(origin):
                raise ValueError(
                    f"This grid picks from {len(origin)} timesteps. Received: num_steps={steps}. Take fewer steps."
                )
            return origin[::-1][np.floor(np.linspace(0, len(origin), num=steps, endpoint=False)).astype(int)]
        extra, stride = int(self.kind == "solver"), (last - first) / steps
        if self.kind == "solver" and self.log_snr_min is not None:
            last = min(last, int(np.sum(-2.0 * np.log(table) >= self.log_snr_min)))
        if self.spacing == "trailing":
            return np.round(last - np.arange(steps) * stride) - 1
        if self.spacing == "leading":
            return first + (np.arange(steps + extra) * ((last - first) // (steps + extra)))[::-1][:steps] + self.offset
        timesteps = np.linspace(first, last - 1, steps + extra)[::-1][:steps]
        return timesteps if self.kind == "sigma" else np.round(timesteps)

    def _curved(self, ratios, steps):
        high = ratios[0] if self.sigma_max is None else self.sigma_max
        low = ratios[-1] if self.sigma_min is None else self.sigma_min
        return _CURVES[self.curve]().ratios(high, low, steps)

    def _flow(self, schedule, steps, start, end):
        shift = getattr(schedule, "shift", None)
        if shift is None:
            raise ValueError(
                f"This grid is one of flow matching. Received: a {type(schedule).__name__}. Take a flow schedule"
            )
        # Its least level is shifted, and then all of the grid once more.
        t = np.linspace(start, end + (start - end) * schedule.levels(1.0 / self.timesteps).sigma, steps)
        sigma = schedule.levels(t).sigma
        if self.curve:
            sigma = self._curved(sigma, steps)
            t = sigma / (shift - (shift - 1.0) * sigma)
        return t, 1.0 - sigma, sigma
