"""What several families ask of a config and say of a network."""

from keras_diffusion.containers.errors import CheckpointError

FOLLOWS = (
    "`{name}` follows from the shapes of the weights and cannot be another. Received: "
    "{name}={value!r}, the file has {found!r}"
)


def must_agree(name, value, found, path, words=FOLLOWS):
    """Raises CheckpointError where what the user says of `name` is not what the file has.

    Args:
        name: of the argument.
        value: the user's; a tuple counts as a list.
        found: the file's.
        path: of the checkpoint, for errors.
        words: of the error, with the places {name}, {value} and {found}.
    """
    value = list(value) if isinstance(value, (list, tuple)) else value
    if value != found:
        raise CheckpointError(words.format(name=name, value=value, found=found), path)


def check_known(arguments, known, words, path):
    """Raises CheckpointError for arguments that are not known.

    Args:
        arguments: their names.
        known: the names that there are.
        words: of the error, with the places {unknown}, or {quoted}, and {known}.
        path: of the checkpoint, for errors.
    """
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        names = {"unknown": ", ".join(unknown), "quoted": ", ".join(map(repr, unknown)), "known": ", ".join(known)}
        raise CheckpointError(words.format(**names), path)


def network_notes(network, no_class=", and trains on labels that are always there."):
    """Sentences for the report: what a network does besides, or cannot do.

    Args:
        network: the network that was built.
        no_class: what is said of a network that knows no label for “no class”, behind “it cannot be guided”.
    """
    notes = []
    if network.output.shape[-1] == 2 * network.sample_shape[-1]:
        notes.append("The second half of the output channels is a variance, which samplers here do not use.")
    if network.num_classes is not None and network.null_labels is None:
        notes.append(f"The network knows no label for “no class”: it cannot be guided{no_class}")
    return notes
