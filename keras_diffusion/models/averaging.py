"""Which weights a model is sampled with, and what the average of the weights does when the network is given others.

count 0, as it was made      the average is unused: the network's own weights are what "ema" means, whatever they have become
updated by training          the average counts, until `restart_average`
given weights of its own     the average counts
"""

from keras_diffusion.runtime.devices import several_processes


def restart_average(model):
    """See `DiffusionModel.restart_average`."""
    if model.average is None:
        raise ValueError(
            "This model keeps no average of its weights. Received: ema=None. Make the model with ema=0.999, for example"
        )
    model.average.restart(model.network)


def averaged_network(model):
    """See `DiffusionModel.averaged_network`."""
    unused = model.average is None or model.average.is_unused()
    return model.network if unused else model.average.network


def settle_average(model):
    """Lets an unused average start at the network's present weights: before training, saving and adapters."""
    if model.average is not None and not several_processes():
        model.average.follow(model.network)
