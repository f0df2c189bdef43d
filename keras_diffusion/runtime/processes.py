"""Joining several processes with `jax.distributed`, before Keras or JAX touch a device.

    coordinator      host:port of process 0, where the processes meet     JAX_COORDINATOR_ADDRESS
    num_processes    how many processes there are                         JAX_NUM_PROCESSES
    process_id       which of them this is, from 0                        JAX_PROCESS_ID

JAX itself detects what neither arguments nor environment give on TPU pods and under SLURM, Open MPI and Kubernetes.
This module imports neither Keras nor JAX until it is used.
"""

import os

_VARIABLES = {
    "coordinator": "JAX_COORDINATOR_ADDRESS",
    "num_processes": "JAX_NUM_PROCESSES",
    "process_id": "JAX_PROCESS_ID",
}
_HEARTBEAT = "JAX_HEARTBEAT_TIMEOUT_SECONDS"


def initialize(coordinator=None, num_processes=None, process_id=None, heartbeat_timeout=None, connection_timeout=300):
    """Joins this process to the others; returns when all have joined.

    Args:
        coordinator: "host:port" of process 0.
        num_processes: int ≥ 1.
        process_id: int from 0.
        heartbeat_timeout: seconds of silence after which a process counts as lost and the others stop. Default: the
            environment's JAX_HEARTBEAT_TIMEOUT_SECONDS, else 100.
        connection_timeout: seconds to wait for the others. Default 300.

    Raises:
        ValueError: incomplete or contradictory arguments.
        ConnectionError: the others did not join in time.
        RuntimeError: JAX has been used already.
    """
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    found = {key: os.environ.get(_VARIABLES[key]) if value is None else value for key, value in given.items()}
    count, number = (_integer(key, found[key]) for key in ("num_processes", "process_id"))
    if count is not None and number is not None and not 0 <= number < count:
        raise ValueError(
            f"Processes are numbered from 0 to {count - 1}. Received: process_id={number}, num_processes={count}"
        )
    if coordinator is not None and not str(coordinator).rpartition(":")[2].isdecimal():
        raise ValueError(
            f"The coordinator is the address of process 0, host:port. Received: coordinator={coordinator!r}"
        )
    heartbeat = _integer(_HEARTBEAT, heartbeat_timeout or os.environ.get(_HEARTBEAT)) or 100
    import jax

    try:
        jax.distributed.initialize(
            found["coordinator"],
            count,
            number,
            # Nothing to detect if all three are given; otherwise SLURM or a TPU pod fills in the rest.
            cluster_detection_method="deactivate" if None not in (found["coordinator"], count, number) else None,
            heartbeat_timeout_seconds=heartbeat,
            initialization_timeout=connection_timeout,
        )
    except ValueError as error:
        raise ValueError(
            "Processes need to know where the first one is, how many there are, and their own number. "
            f"Received: {found}. Give them, or set {', '.join(_VARIABLES.values())}; TPU pods, SLURM and Open "
            f"MPI are recognized. JAX says: {error}"
        ) from error
    except RuntimeError as error:
        if "before any JAX calls" in str(error) or "only be called once" in str(error):
            raise
        first = str(error).splitlines()[0]
        raise ConnectionError(f"The processes did not find each other. Received: {found}. JAX says: {first}") from error


def _integer(name, value):
    if value is None:
        return None
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"`{name}` must be an integer. Received: {name}={value!r}") from None
