"""Multistep methods: one evaluation per step, and what the last evaluations say of the next stretch.

Over a step everything is linear in the known, so each of these methods is a table for one and the same step. With m =
x0 or ε, of which m_{−k} are the last values,

    x_s = α_s·x0 + e·ε + Σ_{k ≥ 1} b_k·(m_{−k} − m) + c·z

Without b this is DDIM (e = σ_s, c = 0) or its noisy form. Only differences of m carry the higher order: nothing is
divided by α, a step without history is a row with b = 0, and so is the closing step, where e = σ_s = 0. A corrector
that uses evaluations made anyway (UniPC, SA-Solver) changes b and nothing else.

The methods differ in what they take for a polynomial, and in which variable: ε in σ/α (`lms`, `ipndm`), ε in λ =
log(α/σ) (`dpm_solver`, `deis`), x0 in λ (`dpmpp`, `unipc`, `sa_solver`). In λ the ODE's linear part leaves an
exponential weight under the integral:

    w_k = ∫₀¹ e^(−z·u)·ℓ_k(u) du  (for ε)     or     ∫₀¹ e^(−z·(1−u))·ℓ_k(u) du  (for x0),      u = (λ − λ_t)/h

ℓ_k being 1 at node k and 0 at the others.
"""

import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_choice
from keras_diffusion.samplers.sampler import Sampler

# Weights of the last values of a function for its mean over the next stretch of an even grid.
ADAMS_BASHFORTH = (
    np.array([1.0]),
    np.array([3.0, -1.0]) / 2.0,
    np.array([23.0, -16.0, 5.0]) / 12.0,
    np.array([55.0, -59.0, 37.0, -9.0]) / 24.0,
)


class MultistepSampler(Sampler):
    """Base class of multistep methods, whose step is the module's formula.

    A subclass writes the plan: columns "x0" (α_s), "eps" (e), "bend" `(n, remembered)` (b) and, where it draws, "noise"
    (c).
    """

    predict_x0 = False  # whether m is x0 rather than ε
    remembered = 0  # number of past values that the step uses

    def initial_state(self, x):
        return tuple(ops.zeros_like(x) for _ in range(self.remembered))

    def noise_spans(self, levels):
        if self.predict_x0:
            return super().noise_spans(levels)
        # On the scale of x/α the noise of the ε forms adds up in (σ/α)², which is the clock then.
        clock = -levels.log_snr
        return np.repeat(np.stack([clock[:-1], clock[1:]], axis=1)[:, None], self.noises_per_step, axis=1)

    def step(self, denoise, x, row, state, noise):
        x0, eps = denoise(x, row["level"])
        m = x0 if self.predict_x0 else eps
        x = row["x0"] * x0 + row["eps"] * eps
        for k, past in enumerate(state):
            x = x + row["bend"][k] * (past - m)
        if self.noises_per_step:
            x = x + row["noise"] * noise(0)
        return x, (m, *state)[: self.remembered]


def check_order(order, highest, name="order"):
    """`order` as an int from 1 to `highest`."""
    numbers = ", ".join(str(k) for k in range(1, highest))
    return check_choice(name, order, range(1, highest + 1), f"`{name}` must be {numbers} or {highest}")


def noisy_scales(levels, eta, predict_x0):
    """Scales of ε and of fresh noise in a first-order step of the reverse SDE with the share η of noise.

        x0 held constant    e = σ_s·e^(−ηh),            c = σ_s·√(1 − e^(−2ηh))           h = λ_s − λ_t
        ε held constant     e = σ_s·(1 − η·(e^h − 1)),   c = σ_s·√(η·(e^(2h) − 1))

    The second has no limit at pure noise, h = ∞; a step from there is the first's.

    Args:
        levels: `Levels` of n + 1 entries.
        eta: η ≥ 0, a number or an array (n,).
        predict_x0: which of the two.

    Returns:
        (e, c), float64 arrays (n,).
    """
    sigma_s, h = levels.sigma[1:], np.diff(0.5 * levels.log_snr)
    eta = np.broadcast_to(np.asarray(eta, "float64"), h.shape)
    drift = np.multiply(eta, h, out=np.zeros_like(h), where=eta > 0)  # without noise also where h = ∞
    kept, fresh = np.exp(-drift), np.sqrt(-np.expm1(-2.0 * drift))
    if not predict_x0:
        finite = np.isfinite(h)
        grown = np.where(finite, h, 0.0)
        kept = np.where(finite, 1.0 - eta * np.expm1(grown), kept)
        fresh = np.where(finite, np.sqrt(eta * np.expm1(2.0 * grown)), fresh)
    return sigma_s * kept, sigma_s * fresh


def known_nodes(half, i, order):
    """λ at the last levels before step i, newest first: `order` of them, or as many as there are.

    Pure noise, λ = −∞, is no node.
    """
    nodes = half[max(i + 1 - order, 0) : i + 1][::-1]
    return nodes[np.isfinite(nodes)]


def quadrature_weights(nodes, moments):
    """Weights with which the values at `nodes` (m,) integrate 1, u … u^(m−1) to the given `moments` (m,)."""
    return np.linalg.solve(np.vander(nodes, increasing=True).T, moments)


def exponential_moments(z, count, rising):
    """∫₀¹ e^(−z·u)·u^k du, or ∫₀¹ e^(−z·(1−u))·u^k du where `rising`, for k = 0 … count − 1 and z > 0: float64 array
    (count,).
    """
    if z < 1.0:  # the recursion would lose log10(k!/z^k) digits
        u, weights = np.polynomial.legendre.leggauss(16)
        u = 0.5 * (1.0 + u)
        weights = 0.5 * weights * np.exp(-z * (1.0 - u if rising else u))
        return np.array([weights @ u**k for k in range(count)])
    moments = [-np.expm1(-z) / z]
    for k in range(1, count):  # integration by parts
        moments.append((1.0 - k * moments[-1]) / z if rising else (k * moments[-1] - np.exp(-z)) / z)
    return np.array(moments)
