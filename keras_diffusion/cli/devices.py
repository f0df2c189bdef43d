"""`--devices` and `--distributed`: what the commands do about many devices and several processes.

Nothing here imports Keras before a command does: processes find each other before anything touches a device.
"""

import contextlib
import os
import re
import sys

from keras_diffusion.cli.config import ConfigError

_joined = False


def join_processes(coordinator=None, num_processes=None, process_id=None):
    """Starts `jax.distributed`; arguments as `core.processes.initialize` has them.

    Raises:
        ConfigError: another backend, incomplete arguments.
        ConnectionError: the others did not come.
    """
    global _joined
    backend = os.environ.get("KERAS_BACKEND", "jax")
    if backend != "jax":
        raise ConfigError(f"--distributed works on JAX. Received: the backend {backend}. Add --backend jax.")
    from keras_diffusion.runtime.processes import initialize

    try:
        initialize(coordinator, num_processes, process_id)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    _joined = True


def joined():
    """Whether this process is one of several."""
    return _joined


def leave_processes(code):
    """Ends this process at once if it is one of several: an orderly exit would wait minutes for the others, who wait
    for this one.
    """
    if _joined:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@contextlib.contextmanager
def on_devices(specification):
    """A context in which `keras.distribution` is set to what "data=4,model=2" says; None leaves it as it is."""
    if specification is None:
        yield
        return
    from keras_diffusion.distribution import make

    try:
        distribution = make(specification)
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(f"--devices {specification}: {error}") from error
    with distribution.scope():
        yield


@contextlib.contextmanager
def lost_processes():
    """Turns the many errors that the end of another process may cause into one that says so."""
    try:
        yield
    except (RuntimeError, AssertionError, ValueError) as error:
        # Errors of the connection arrive as ValueErrors too, with a status in front: "UNKNOWN: Gloo AllGather failed:
        # …".
        if not _joined or (isinstance(error, ValueError) and not re.match(r"[A-Z_]+: ", str(error))):
            raise
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConnectionError(
            f"Another process was lost, or failed. Start all of them again with --resume: the last saved epoch is "
            f"kept. JAX says: {first}"
        ) from error


def share_data(console, train, validation):
    """Fits data to the devices: batches have to be shared evenly, and each process reads its own rows.

    Raises:
        ConfigError: training batches that do not divide, or validation data too few to be shared.
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
    if not train.drop_remainder and train.batches_per_epoch is None and len(train.source) % train.batch_size % replicas:
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
    # Batches of one size: what is left over would have to be padded, and its loss weighted.
    validation.batch_size = min(
        validation.batch_size // replicas * replicas or replicas, samples // replicas * replicas
    )
    validation.drop_remainder = True
    left_out = samples % validation.batch_size
    if left_out:
        console.print(
            f"Validation leaves out {left_out} of {samples} samples, which do not fill a batch.", style="yellow"
        )
    share(validation)


def check_layout(model):
    """Raises a ConfigError where weights were to be split and none is."""
    from keras_diffusion.distribution import SplitWeights, layout_map
    from keras_diffusion.runtime.devices import active_distribution

    distribution = active_distribution()
    if isinstance(distribution, SplitWeights):
        try:
            layout_map(model.network, distribution.device_mesh)
        except ValueError as error:
            raise ConfigError(str(error)) from error


def describe_distribution():
    """What `environment.json` says of devices used together: {} for one device."""
    from keras_diffusion.runtime.devices import active_distribution

    distribution = active_distribution()
    if distribution is None:
        return {}
    mesh = distribution.device_mesh
    axes = ", ".join(f"{name} {size}" for name, size in zip(mesh.axis_names, mesh.shape))
    processes = f", {distribution.num_processes} processes" if distribution.num_processes > 1 else ""
    return {"distribution": f"{type(distribution).__name__}: {axes}{processes}"}
