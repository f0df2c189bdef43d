"""Wrappers that walk down, jump back up by adding noise, and walk down again.

    level 0 ──▶ … ──▶ level i ─ ─ noise ─ ─▶ level j < i ──▶ … ──▶ level i ──▶ …

x_j = α_j/α_i·x_i + √(σ_j² − (α_j/α_i·σ_i)²)·z has the noisy density of level j if x_i has that of level i: jumps change
nothing in theory, and in practice the fresh noise covers errors that the walk has made so far. Every piece between
jumps is planned by itself, with the wrapped sampler, and the tables are put one behind the other. So a multistep method
starts each piece without a history, which is zeros in its table.
"""

import keras
import numpy as np

from keras_diffusion.configs.checks import check_number
from keras_diffusion.samplers.adaptive import AdaptiveSampler
from keras_diffusion.samplers.sampler import SAMPLERS, Sampler
from keras_diffusion.samplers.tables import rows_of


class JumpingSampler(Sampler):
    """Base class of samplers that walk with another one and jump.

    A subclass writes `pieces`. The last draw of a row is the jump's, those before are the wrapped sampler's. All noise
    is independent: one Brownian path would repeat its noise at every visit of a level.

    Args:
        sampler: `Sampler`, its name, or a dict with options: any that walks down by a table.
        s_noise: factor on the jumps' noise. Default 1.

    Raises:
        ValueError: a sampler that walks upwards, jumps itself, or chooses its own steps; Brownian noise (at plan time).
    """

    table_options: tuple[str, ...] = ("s_noise",)

    def __init__(self, sampler, s_noise=1.0, **kwargs):
        super().__init__(**kwargs)
        self.sampler, self.s_noise = SAMPLERS.get(sampler), check_number("s_noise", s_noise, 0)
        inner = self.sampler
        if inner.ascends or isinstance(inner, JumpingSampler) or isinstance(inner, AdaptiveSampler):
            raise ValueError(
                "`sampler` must be one that walks down by a table: not upwards, not with jumps or steps of its own. "
                f"Received: sampler={type(inner).__name__}"
            )
        self.evaluations_per_step, self.noises_per_step = inner.evaluations_per_step, inner.noises_per_step + 1

    def pieces(self, levels, schedule):
        """The walks between jumps.

        Args:
            levels: checked `Levels` of the grid, n + 1 entries.
            schedule: `NoiseSchedule` that they lie on, or None; see `plan`.

        Returns:
            list of pairs: `Levels` of a piece, m + 1 entries, and an int array (m,) with the places of its entries 1 …
            m on the grid, −1 for those that are not on it.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement pieces(levels, schedule)")

    def plan(self, levels, schedule=None):
        tables, last = [], levels.map(lambda v: v[0])
        for piece, _ in self.pieces(levels, schedule):
            inner = self.sampler.table(piece, schedule)
            gain, added, starts = np.ones(rows_of(inner)), np.zeros(rows_of(inner)), np.zeros(rows_of(inner))
            gain[0] = piece.alpha[0] / last.alpha if last.alpha else 1.0
            added[0] = self.s_noise * np.sqrt(max(piece.sigma[0] ** 2 - (gain[0] * last.sigma) ** 2, 0.0))
            starts[np.append(0, self.sampler.step_ends(piece)[:-1] + 1)] = 1.0
            tables.append({"inner": inner, "level": inner["level"], "gain": gain, "added": added, "starts": starts})
            last = piece.map(lambda v: v[-1])
        return keras.tree.map_structure(lambda *columns: np.concatenate(columns), *tables)

    def step_ends(self, levels):
        ends, row = np.zeros(len(levels.t), "int64"), 0
        for piece, places in self.pieces(levels.at_unit_alpha(), None):
            inner = self.sampler.step_ends(piece)
            ends[places[places > 0]] = (row + inner)[places > 0]  # the last visit of a level is the one that counts
            row += inner[-1] + 1
        return ends[1:]

    def initial_state(self, x):
        return self.sampler.initial_state(x)

    def prepare(self, denoise, x, row, noise):
        """x where the wrapped sampler's step begins: after the jump, if there is one.

        Args:
            denoise, x, row, noise: as in `step`.

        Returns:
            samples `(B, ...)`.
        """
        return row["gain"] * x + row["added"] * noise(self.sampler.noises_per_step)

    def step(self, denoise, x, row, state, noise):
        return self.sampler.step(denoise, self.prepare(denoise, x, row, noise), row["inner"], state, noise)

    def close(self, denoise, x, row, noise):
        return self.sampler.close(denoise, self.prepare(denoise, x, row, noise), row["inner"], noise)

    def closes_apart(self, levels):
        return self.sampler.closes_apart(levels)

    def noise_spans(self, levels):
        raise ValueError(
            "A walk with jumps needs new noise at every visit of a level. Received: noise='brownian'. Take "
            "'independent'."
        )

    def coupling(self, levels):
        inner, blocks = self.sampler, []
        for piece, _ in self.pieces(levels.at_unit_alpha(), None):
            block = np.repeat(np.eye(self.noises_per_step)[None], inner.step_ends(piece)[-1] + 1, axis=0)
            if inner.noises_per_step > 1:
                block[:, : inner.noises_per_step, : inner.noises_per_step] = inner.coupling(piece)
            blocks.append(block)
        return np.concatenate(blocks)

    def structure(self):
        return type(self).__name__, self.sampler.structure()

    def report(self, state):
        return self.sampler.report(state)
