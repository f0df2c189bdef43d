"""Low-rank adapters of a diffusion model: in its network, and in the average of it alike.

Training then moves the adapters alone, and the average follows these. The frozen weights stay what they are: the
network's, and the average's.
"""

from keras_diffusion.lora.network import LoRAMixin


def add(model, method, *args):
    """Calls a method of the network that adds adapters, and gives them to the average."""
    network = _adaptable(model)
    model.prepare_weights()  # the average
    getattr(network, method)(*args)
    if model.average is not None:
        model.average.take_adapters_of(network)
    forget_programs(model)


def end(model, method):
    """Calls a method, which ends adapters, of the network and of its average."""
    networks = [_adaptable(model), *([] if model.average is None else [model.average.network])]
    for network in networks:
        getattr(network, method)()
    forget_programs(model)


def forget_programs(model):
    """Forgets what was compiled with the old weights in it, and the optimizer's state of them."""
    model.programs.clear()
    model.train_function = model.test_function = model.predict_function = None
    if model.compiled:
        jit_compile = model.jit_compile
        model.compile_from_config(model.get_compile_config())
        model.jit_compile = jit_compile


def _adaptable(model):
    if not isinstance(model.network, LoRAMixin):
        raise ValueError(
            "Adapters are for the networks of this library, whose configs remember them. Received: a "
            f"{type(model.network).__name__}"
        )
    return model.network
