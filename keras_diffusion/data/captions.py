"""Texts that say what pictures show: one for each, or several, of which each epoch draws one.

    pictures/001.png  pictures/001.txt        one caption a line
    pictures/metadata.jsonl                   {"file_name": "001.png", "text": "a red apple"}
    pictures/metadata.csv                     file_name,text

A table's `file_name` is relative to the table and only looked up among the pictures of the folder: nothing else is
opened. The text stands under "text", "caption", "captions" or "prompt", in JSON also as a list of several.
"""

import csv
import io
import warnings
from pathlib import Path

import numpy as np

from keras_diffusion.configs.checks import clip, shown
from keras_diffusion.runtime.documents import parse_json
from keras_diffusion.runtime.files import read_bytes

TEXT_KEYS = ("text", "caption", "captions", "prompt")
TABLES = ("metadata.jsonl", "metadata.csv")
_RULE = "A caption is a text, or a list of texts of which each epoch draws one"


def as_texts(value, what="a caption"):
    """One picture's caption or captions as a tuple of texts, without white space around them.

    Args:
        value: a text, or a list, tuple or array `(k,)` of texts.
        what: what the value is, for the error.

    Returns:
        tuple of at least one str.

    Raises:
        ValueError: anything else.
    """
    if isinstance(value, np.ndarray):
        value = value.tolist()
    several = list(value) if isinstance(value, list | tuple) else [value]
    texts = [text.decode("utf-8", "strict") if isinstance(text, bytes) else text for text in several]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{_RULE}. Received: {shown(value)} as {what}")
    return tuple(text.strip() for text in texts)


def check_captions(captions, n):
    """The captions of `n` pictures as a list: a str, or a tuple of str where there are several.

    Args:
        captions: sequence of `n` texts or lists of texts; also an array `(n,)` or `(n, k)`.
        n: number of pictures.

    Raises:
        ValueError: another number, or a value that is no text.
    """
    if isinstance(captions, str | bytes) or not hasattr(captions, "__len__"):
        raise ValueError(f"Captions are one for each picture, in a list. Received: captions={shown(captions)}")
    if len(captions) != n:
        raise ValueError(f"Captions are one for each picture. Received: {len(captions)} captions of {n} pictures")
    texts = [as_texts(value, f"caption {i}") for i, value in enumerate(captions)]
    return [several[0] if len(several) == 1 else several for several in texts]


def draw_captions(texts, draws):
    """One caption of each picture.

    Args:
        texts: sequence of B tuples of texts.
        draws: floats in [0, 1) `(B,)`, which choose.

    Returns:
        array of str objects `(B,)`.
    """
    return np.array([several[int(u * len(several))] for several, u in zip(texts, draws)], dtype=object)


def from_template(templates, class_name):
    """Captions of a class: each template with the class's name in the place of “{}”."""
    return tuple(template.replace("{}", class_name) for template in templates)


def check_template(templates):
    """One template or a list of them as a tuple.

    Raises:
        ValueError: no text, or one without “{}”.
    """
    several = (templates,) if isinstance(templates, str) else templates
    is_list = isinstance(several, list | tuple) and len(several) > 0
    if not is_list or not all(isinstance(template, str) and "{}" in template for template in several):
        raise ValueError(
            "A caption made of a class's name is a template such as 'a photo of a {}', or a list of them. Received: "
            f"captions={shown(templates)}"
        )
    return tuple(several)


class FolderCaptions:
    """The captions beside the pictures of a folder: text files, and tables.

    Args:
        path: the folder.
        files: paths of its pictures.

    Attributes:
        exist: whether there are any.
    """

    def __init__(self, path, files):
        self.files = files
        tables = [Path(path), *sorted({file.parent for file in files} - {Path(path)})]
        self._tables = [folder / name for folder in tables for name in TABLES if (folder / name).is_file()]
        self._beside = {file.with_suffix("") for file in files} & _texts_in({file.parent for file in files})
        self.exist = bool(self._tables or self._beside)
        self._listed = self._failure = None

    def __getitem__(self, index):
        """A tuple of the texts of picture `index`; ("",) where it has none."""
        file = self.files[index]
        if file.with_suffix("") in self._beside:
            return read_text_file(file.with_suffix(".txt"))
        return self._from_tables().get(file, ("",))

    def _from_tables(self):
        if self._failure is not None:  # each sample asks again, and the table stays as it is
            raise ValueError(self._failure)
        if self._listed is None:
            try:
                self._listed = self._read_tables()
            except ValueError as error:
                self._failure = str(error)
                raise
        return self._listed

    def _read_tables(self):
        listed, known = {}, set(self.files)
        for table in self._tables:
            rows = {table.parent / name: texts for name, texts in read_table(table).items()}
            unknown = [path for path in rows if path not in known]
            if unknown:
                warnings.warn(
                    f"{table} has captions of {len(unknown)} pictures that the folder does not have, the first "
                    f"{unknown[0].name!r}. They are ignored.",
                    stacklevel=2,
                )
            listed |= rows
        return listed


def _texts_in(folders):
    """Paths, less the suffix, of the text files in `folders`."""
    return {text.with_suffix("") for folder in folders for text in folder.glob("*.txt")}


def read_text_file(path):
    """The captions in a text file, one a line; ("",) if it is empty.

    Raises:
        ValueError: it cannot be read, is too large, or is not UTF-8.
    """
    return texts_of_lines(read_bytes(path), str(path))


def texts_of_lines(data, what):
    """The lines of bytes in UTF-8 that are not empty, a tuple; ("",) without any."""
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"Captions are texts in UTF-8. Received: {what}: {error}. Save it as UTF-8.") from error
    return tuple(line.strip() for line in lines if line.strip()) or ("",)


def texts_of_record(record, what):
    """The captions under one of `TEXT_KEYS` in a dict; None without any."""
    found = next((record[key] for key in TEXT_KEYS if record.get(key) is not None), None)
    return None if found is None or found == [] else as_texts(found, what)


def read_table(path):
    """A table of captions: dict from `file_name` to a tuple of texts.

    Args:
        path: a metadata.jsonl or metadata.csv.

    Raises:
        ValueError: it cannot be read or is too large, a row without file name or text, or a file named twice with
            other captions.
    """
    path = Path(path)
    captions = {}
    for number, row in table_rows(path):
        name, texts = row.get("file_name"), texts_of_record(row, f"line {number} of {path}")
        if not isinstance(name, str) or not name or texts is None:
            raise ValueError(
                f"A row of {path.name} has “file_name” and one of {', '.join(TEXT_KEYS)}. Received: line {number} of "
                f"{path} with {', '.join(map(str, row)) or 'nothing'}"
            )
        captions[name] = captions.get(name, ()) + tuple(t for t in texts if t not in captions.get(name, ()))
    return captions


def table_rows(path):
    """The rows of a .jsonl or .csv file: (number of the line, dict) of each.

    Args:
        path: the file, in UTF-8; another ending than .jsonl is taken for CSV with a header.

    Raises:
        ValueError: it cannot be read or is too large.
    """
    path = Path(path)
    try:
        text = read_bytes(path, limit="caption_bytes").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"A table of captions is in UTF-8. Received: {path}: {error}. Save it as UTF-8.") from error
    return _json_rows(text, path) if path.suffix.lower() == ".jsonl" else _csv_rows(text, path)


def _json_rows(text, path):
    for number, line in enumerate(text.split("\n"), 1):  # splitlines would also end a line at U+2028
        if line.strip():
            yield number, parse_json(line, f"line {number} of {path}")


def _csv_rows(text, path):
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            yield reader.line_num, {key: value for key, value in row.items() if key is not None}
    except csv.Error as error:
        where = f"line {reader.line_num + 1} of the table {path}"
        raise ValueError(clip(f"Cannot read {where}: {error}. Quote texts that hold commas or quotes.")) from None
