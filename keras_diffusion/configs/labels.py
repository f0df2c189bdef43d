"""Class names: one name for each label, and labels from names.

In Python, an integer is a label and a string is a name. The command line has strings only, see `parse_labels`.
"""

import re

from keras_diffusion.configs.checks import did_you_mean, shown

_MOST = 100_000  # labels in one request


def check_class_names(class_names, num_classes):
    """`class_names` as a list of strings, or None.

    Raises:
        ValueError: anything but as many distinct strings as there are classes.
    """
    if class_names is None:
        return None
    names = list(class_names) if isinstance(class_names, (list, tuple)) else None
    if names is None or not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise ValueError(
            "`class_names` is a list of different texts, one per class, or None. Received: "
            f"class_names={shown(class_names)}"
        )
    if len(names) != (num_classes or 0):
        raise ValueError(
            f"`class_names` has one name per class of the network, which has {num_classes or 0}. "
            f"Received: {len(names)} names: {shown(names)}"
        )
    return names


def label_of(name, class_names):
    """The label of the class called `name`.

    Raises:
        ValueError: no such name, or a model without class names.
    """
    if not class_names:
        raise ValueError(
            f"The model does not know its classes by name: labels are integers here. Received: label {shown(name)}"
        )
    if name in class_names:
        return class_names.index(name)
    folded = [i for i, known in enumerate(class_names) if known.casefold() == name.strip().casefold()]
    if len(folded) == 1:
        return folded[0]
    raise ValueError(
        f"Unknown class name. Received: {shown(name)}.{did_you_mean(name, class_names)} Known: {listed(class_names)}"
    )


def labels_of(labels, class_names):
    """Labels with names replaced by integers.

    Takes an integer, a name, or a sequence of both; anything else is returned unchanged.
    """
    if isinstance(labels, str):
        return label_of(labels, class_names)
    if getattr(getattr(labels, "dtype", None), "kind", None) in ("U", "O"):
        labels = labels.tolist()
    if isinstance(labels, (list, tuple)):
        return [label_of(label, class_names) if isinstance(label, str) else label for label in labels]
    return labels


def parse_labels(labels, class_names=None, most=_MOST):
    """Labels from text, "0,1,2", "0-9", "china,flower" or "0-3,flower", from a list of such parts, or an integer.

    A part that is a name is that class. If names look like numbers but differ from the labels (folders "1", "2", "3"),
    all numbers in strings are names.

    Args:
        labels: string, integer, or a list of these.
        class_names: names of the classes, or None.
        most: how many labels there may be.

    Returns:
        list of integers ≥ 0.

    Raises:
        ValueError: text of another form, unknown names, more labels than `most`.
    """
    names = class_names or ()
    if isinstance(labels, str) and labels in names:
        return [class_names.index(labels)]
    given = labels.split(",") if isinstance(labels, str) else labels
    parts = given if isinstance(given, (list, tuple)) else [given]
    numbers_are_names = any(re.fullmatch(r"\d+", name) and name != str(i) for i, name in enumerate(names))
    ids = []
    for part in parts:
        text, is_text = str(part).strip(), isinstance(part, str)
        match = re.fullmatch(r"(\d{1,18})\s*(?:-\s*(\d{1,18}))?", text)
        is_name = is_text and (text in names or (numbers_are_names and not (match and match[2])))
        if is_name or (is_text and class_names and text and not match):
            ids.append(label_of(text, class_names))
        elif match:
            numbers = range(int(match[1]), int(match[2] or match[1]) + 1)
            if not 0 < len(numbers) <= most:
                raise _no_labels(labels, most if numbers else None)
            ids.extend(label_of(str(n), class_names) if is_text and numbers_are_names else n for n in numbers)
        else:
            word = is_text and re.search(r"[^\W\d]", text)
            raise _no_labels(labels, ending=". The model does not know its classes by name" if word else "")
        if len(ids) > most:
            raise _no_labels(labels, most)
    return ids


def listed(class_names, most=20):
    """Names as one string, "0 china, 1 flower"; of many, the first ones."""
    texts = [f"{i} {name}" for i, name in enumerate(class_names[:most])]
    return ", ".join(texts) + (f", … ({len(class_names)} classes)" if len(class_names) > most else "")


def name_of(label, class_names):
    """The name of a class, else "class 3"."""
    return class_names[label] if class_names and 0 <= label < len(class_names) else f"class {label}"


def _no_labels(labels, most=None, ending=""):
    rule = f", {most:,} at most" if most else ""
    return ValueError(
        f"Labels are class ids such as 0,1,2 or a range such as 0-9, or class names{rule}. Received: "
        f"labels={shown(labels)}{ending}"
    )
