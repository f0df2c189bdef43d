"""Class names: one name for each label, and labels from names.

In Python an integer is a label and a text is a name. On the command line everything is text, see `parse_labels`.
"""

import re

from keras_diffusion.configs.checks import did_you_mean, shown

_MOST = 100_000  # labels in one request


def check_class_names(class_names, num_classes):
    """`class_names` as a list of texts, or None.

    Raises:
        ValueError: anything but as many different texts as there are classes.
    """
    if class_names is None:
        return None
    names = list(class_names) if isinstance(class_names, (list, tuple)) else None
    if names is None or not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise ValueError(
            f"`class_names` is a list of different texts, one per class, or None. Received: "
            f"class_names={shown(class_names)}"
        )
    if len(names) != (num_classes or 0):
        raise ValueError(
            f"`class_names` has one name per class of the network, which has {num_classes or 0}. "
            f"Received: {len(names)} names: {shown(names)}"
        )
    return names


def label_of(name, class_names):
    """The label of a class that is called `name`.

    Raises:
        ValueError: no such name, or a model that knows no names.
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
    """Labels with names replaced by integers: an integer, a name, or a sequence of both; all else is
    returned as it is.
    """
    if isinstance(labels, str):
        return label_of(labels, class_names)
    if getattr(getattr(labels, "dtype", None), "kind", None) in ("U", "O"):
        labels = labels.tolist()
    if isinstance(labels, (list, tuple)):
        return [label_of(label, class_names) if isinstance(label, str) else label for label in labels]
    return labels


def parse_labels(labels, class_names=None, most=_MOST):
    """Labels from text ("0,1,2", "0-9", "china,flower", "0-3,flower"), from a list of such parts and of integers, or
    from an integer.

    A part that is a name is that class. Where names look like numbers but are not the labels themselves (folders "1",
    "2", "3"), all numbers in texts are names.

    Args:
        labels: text, integer, or a list of these.
        class_names: names of the classes, or None.
        most: how many labels there may be.

    Returns:
        list of integers ≥ 0.

    Raises:
        ValueError: text of another form, unknown names, more labels than `most`.
    """
    if isinstance(labels, str) and labels in (class_names or ()):
        return [class_names.index(labels)]
    given = labels.split(",") if isinstance(labels, str) else labels
    parts = given if isinstance(given, (list, tuple)) else [given]
    numbers_are_names = any(re.fullmatch(r"\d+", name) and name != str(i) for i, name in enumerate(class_names or ()))
    ids = []
    for part in parts:
        text = str(part).strip()
        match = re.fullmatch(r"(\d{1,18})\s*(?:-\s*(\d{1,18}))?", text)
        if isinstance(part, str) and text in (class_names or ()):
            ids.append(class_names.index(text))
        elif match and not (numbers_are_names and isinstance(part, str)):
            first, last = int(match[1]), int(match[2] or match[1])
            if first > last or last - first >= most:
                raise _no_labels(labels, most if first <= last else None)
            ids.extend(range(first, last + 1))
        elif match and match[2]:
            ids.extend(label_of(str(number), class_names) for number in _numbers(match, labels, most))
        elif isinstance(part, str) and class_names and text:
            ids.append(label_of(text, class_names))
        elif isinstance(part, str) and re.search(r"[^\W\d]", text):
            raise _no_labels(labels, ending=". The model does not know its classes by name")
        else:
            raise _no_labels(labels)
        if len(ids) > most:
            raise _no_labels(labels, most)
    return ids


def listed(class_names, most=20):
    """Names as a text: "0 china, 1 flower"; of many, the first ones."""
    texts = [f"{i} {name}" for i, name in enumerate(class_names[:most])]
    return ", ".join(texts) + (f", … ({len(class_names)} classes)" if len(class_names) > most else "")


def name_of(label, class_names):
    """What a class is called: its name, else "class 3"."""
    return class_names[label] if class_names and 0 <= label < len(class_names) else f"class {label}"


def _numbers(match, labels, most):
    first, last = int(match[1]), int(match[2])
    if first > last or last - first >= most:
        raise _no_labels(labels, most)
    return range(first, last + 1)


def _no_labels(labels, most=None, ending=""):
    rule = f", {most:,} at most" if most else ""
    return ValueError(
        f"Labels are class ids such as 0,1,2 or a range such as 0-9, or class names{rule}. Received: "
        f"labels={shown(labels)}{ending}"
    )
