"""The embedding of timesteps in the convention of diffusers."""

from keras_diffusion.layers import SinusoidalEmbedding


def sinusoidal_embedding(dim, freq_shift, cos_first, scale=1.0):
    """`SinusoidalEmbedding` with frequencies scale·10000^(−k/(dim/2 − freq_shift))."""
    half = dim // 2
    if not half > freq_shift:
        raise ValueError(
            f"An embedding of {dim} numbers has {half} frequencies, more than `freq_shift`. Received: "
            f"freq_shift={freq_shift}"
        )
    period = 10000.0 ** (half / (half - freq_shift))
    return SinusoidalEmbedding(dim, period, scale=scale, cos_first=cos_first, name="time_embedding")
