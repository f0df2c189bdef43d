"""The state of a model as nested dicts: what `keras.callbacks.OrbaxCheckpoint` writes.

    {"trainable_variables": {"mlp": {"dense": {"kernel": …}}}, "non_trainable_variables": …,
     "optimizer_variables": …, "metrics_variables": …}

Keras builds the same tree from the paths of the variables, and refuses two variables of one path.
"""

import collections

from keras import ops

from keras_diffusion.configs.checks import check_choice

#: Groups of a model's variables, as Keras names its attributes.
GROUPS = ("trainable_variables", "non_trainable_variables", "optimizer_variables", "metrics_variables")
_RULE = "`value_format` is 'backend_tensor' or 'numpy_array'"


def read_state(model, value_format):
    """The values of a model's variables by group and path; see `ResumableModel.get_state_tree`."""
    check_choice("value_format", value_format, ("backend_tensor", "numpy_array"), _RULE)
    tree = {}
    for group in GROUPS:
        tree[group] = {}
        for path, variable in _variables_by_path(model, group):
            *folders, name = path.split("/")
            folder = tree[group]
            for part in folders:
                folder = folder.setdefault(part, {})
            folder[name] = variable.value if value_format == "backend_tensor" else ops.convert_to_numpy(variable.value)
    return tree


def assign_state(model, tree):
    """Assigns the values of a tree to the variables whose paths it has."""
    for group, branch in tree.items():
        if group not in GROUPS:
            raise ValueError(f"A state tree has the branches {', '.join(GROUPS)}. Received: {group!r}")
        values = dict(_leaves(branch))
        for path, variable in _variables_by_path(model, group):
            if path in values:
                variable.assign(values[path])


def _variables_by_path(model, group):
    if group == "optimizer_variables":
        variables = [] if model.optimizer is None else model.optimizer.variables
        # Without the optimizer's own name: a process's second Adam is called adam_1.
        return _apart((variable.path.partition("/")[2] or variable.path, variable) for variable in variables)
    prefixes = {id(v): prefix for prefix, layer in model.state_prefixes().items() for v in layer.variables}
    return _apart((prefixes.get(id(variable), "") + variable.path, variable) for variable in getattr(model, group))


def _apart(pairs):
    """(path, variable) of each pair; a path that came before gets a number: the two halves of an autoencoder have
    layers of the same names, and so have two optimizers.
    """
    seen = collections.Counter()
    for path, variable in pairs:
        seen[path] += 1
        yield path if seen[path] == 1 else f"{path}-{seen[path]}", variable


def _leaves(tree, prefix=""):
    """(path, value) of each leaf of nested dicts."""
    for key, value in tree.items():
        yield from _leaves(value, f"{prefix}{key}/") if isinstance(value, dict) else [(prefix + key, value)]
