"""`--devices` and `--distributed`: many devices and several processes.

Nothing here imports Keras before a command does, since processes must join before anything touches a device.
"""

import contextlib
import os
import re
import sys

from keras_diffusion.cli.config import ConfigError, config_errors

_joined = False


def join_processes(coordinator=None, num_processes=None, process_id=None):
    """Starts `jax.distributed`; arguments as in `runtime.processes.initialize`.

    Raises:
        ConfigError: another backend, incomplete arguments.
        ConnectionError: the others did not join.
    """
    global _joined
    backend = os.environ.get("KERAS_BACKEND", "jax")
    if backend != "jax":
        raise ConfigError(f"--distributed works on JAX. Received: the backend {backend}. Add --backend jax.")
    from keras_diffusion.runtime.processes import initialize

    with config_errors():
        initialize(coordinator, num_processes, process_id)
    _joined = True


def joined():
    """Whether this process is one of several."""
    return _joined


def leave_processes(code):
    """Ends this process at once if it is one of several.

    An orderly exit would wait minutes for the others, which wait for this one.
    """
    if _joined:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@contextlib.contextmanager
def on_devices(specification):
    """A context with the `keras.distribution` of a specification such as "data=4,model=2"; None changes nothing."""
    if specification is None:
        yield
        return
    from keras_diffusion.distribution import make

    with config_errors(f"--devices {specification}: ", (ValueError, NotImplementedError)):
        distribution = make(specification)
    with distribution.scope():
        yield


@contextlib.contextmanager
def lost_processes():
    """Turns the many errors that the loss of another process may cause into one that says so."""
    try:
        yield
    except (RuntimeError, AssertionError, ValueError) as error:
        # Connection errors may be ValueErrors that start with a status: "UNKNOWN: Gloo AllGather failed: …".
        if not _joined or (isinstance(error, ValueError) and not re.match(r"[A-Z_]+: ", str(error))):
            raise
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConnectionError(
            "Another process was lost, or failed. Start all of them again with --resume: the last saved epoch is "
            f"kept. JAX says: {first}"
        ) from error


def share_data(console, train, validation):
    """Fits data to the devices: batches must be shared evenly, and each process reads its own rows.

    Raises:
        ConfigError: training batches that do not divide evenly, or too few validation samples.
    """
    from keras_diffusion.distribution import share
    from keras_diffusion.runtime.devices import active_distribution

    distribution = active_distribution()
    if distribution is None:
        return
    replicas = distribution.num_model_replicas
    if train.batch_size % replicas:
        raise ConfigError(
            f"Every batch is split over {replicas} devices. Received: "
            f"data.batch_size={train.batch_size}. Choose a multiple."
        )
    if any(rest % replicas for rest in train.remainders):
        raise ConfigError(
            f"The last batch of an epoch cannot be split over {replicas} devices. Set data.drop_remainder=true."
        )
    share(train)
    if validation is None:
        return
    samples = len(validation.source)
    if samples < replicas:
        raise ConfigError(
            f"The held-out data, {samples} samples, are too few for {replicas} devices. Set data.validation=false."
        )
    # Batches of one size: a remainder would have to be padded, and its loss weighted.
    validation.batch_size = min(
        validation.batch_size // replicas * replicas or replicas, samples // replicas * replicas
    )
    validation.drop_remainder = False
    left_out = sum(validation.remainders)
    validation.drop_remainder = True
    if left_out:
        console.print(
            f"Validation leaves out {left_out} of {samples} samples, which do not fill a batch.", style="yellow"
        )
    share(validation)


def check_layout(model):
    """Raises a ConfigError if weights should be split, but none can be."""
    from keras_diffusion.distribution import SplitWeights, layout_map
    from keras_diffusion.runtime.devices import active_distribution

    distribution = active_distribution()
    if isinstance(distribution, SplitWeights):
        with config_errors():
            layout_map(model.network, distribution.device_mesh)


def describe_distribution():
    """The entry of `environment.json` for devices used together; {} for one device."""
    from keras_diffusion.runtime.devices import active_distribution

    distribution = active_distribution()
    if distribution is None:
        return {}
    mesh = distribution.device_mesh
    axes = ", ".join(f"{name} {size}" for name, size in zip(mesh.axis_names, mesh.shape))
    processes = f", {distribution.num_processes} processes" if distribution.num_processes > 1 else ""
    return {"distribution": f"{type(distribution).__name__}: {axes}{processes}"}
