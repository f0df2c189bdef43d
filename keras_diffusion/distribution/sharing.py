"""Data for several processes: each reads its own rows of every batch.

Together they see the batches that one process would see.
"""

import numpy as np

from keras_diffusion.runtime.devices import active_distribution, several_processes


def local_rows(batch_size):
    """The rows of a global batch that this process feeds to its devices.

    Processes whose devices share one copy of the model (the model axis runs across them) feed the same rows.

    Args:
        batch_size: rows of the global batch.

    Returns:
        int array `(n,)`; all rows for one process.

    Raises:
        ValueError: a batch that the devices cannot share.
    """
    if not several_processes():
        return np.arange(batch_size)
    distribution = active_distribution()
    replicas = distribution.num_model_replicas
    if batch_size % replicas:
        raise ValueError(
            f"Every batch is split over {replicas} devices. Received: batch_size={batch_size}. Choose a multiple."
        )
    sharding = distribution.get_data_layout((batch_size,)).backend_layout
    slices = sharding.addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[index] for index in slices]))


def share(batches):
    """Makes `data.Batches` read the rows of this process only. Does nothing with one process.

    Args:
        batches: `data.Batches` with `drop_remainder=True`, made alike in every process.

    Returns:
        `batches`.

    Raises:
        ValueError: batches that the devices cannot share, or a last batch of another size.

    Example:

    >>> batches = keras_diffusion.distribution.share(keras_diffusion.data.load("digits", batch_size=64))
    """
    if several_processes():
        if batches.remainders:
            raise ValueError(
                "Processes share batches of one size. Received: "
                "drop_remainder=False. Make them with drop_remainder=True."
            )
        batches.rows = local_rows(batches.batch_size)
    return batches
