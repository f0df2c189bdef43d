"""From a docstring in Keras's form to reStructuredText.

    One line that says what it is.          paragraphs and lists stay what they are
        x_s = α_s·x0 + σ_s·ε                indented lines are formulas, or code where they are Python
    Args:                                   becomes a field with a list of names
        order: 1, 2 or 3.
    Example:                                a heading, and the lines to type
    Reference:                              a field

Docstrings are plain text with single backticks: nothing else is markup, so `*`, `_` and `|` are shown as they stand.
"""

import ast
import inspect
import re
import textwrap

#: Sections that list names, and what the site calls them.
LISTS = {
    "Args": "Arguments",
    "Call arguments": "Call arguments",
    "Attributes": "Attributes",
    "Fields": "Fields",
    "Raises": "Raises",
}
#: Sections of running text.
TEXTS = {"Returns": "Returns", "Yields": "Yields", "Reference": "Reference", "References": "Reference"}
#: Sections that get a heading of their own.
HEADINGS = ("Example", "Examples", "Input shape", "Output shape", "Note", "Notes")

_SECTION = re.compile(rf"^({'|'.join([*LISTS, *TEXTS, *HEADINGS])}):$")
_ITEM = re.compile(r"^(?:[-*]|\d+\.) ")
_SPAN = re.compile(r"(`+)(.+?)\1", re.DOTALL)
_PYTHON = re.compile(r"\b(import|def|class|kd\.|keras\.|model\.)")


def setup(app):
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _process(app, what, name, obj, options, lines):
    text = "\n".join(lines).strip()
    if what == "data" and text == inspect.cleandoc(type(obj).__doc__ or ""):  # what it says of all dicts
        text = ""
    lines[:] = to_rst(text)


def to_rst(text):
    """Lines of reStructuredText for a docstring."""
    lines = textwrap.dedent(text).strip("\n").expandtabs().splitlines()
    found, i = [], 0
    while i < len(lines):
        section = _SECTION.match(lines[i])
        if section and section[1] in HEADINGS:
            found += ["", f".. rubric:: {section[1]}", ""]
            if i + 1 < len(lines) and lines[i + 1].startswith(" "):  # the lines to type may be indented
                body, i = _body(lines, i + 1)
                found += to_rst(body)
                continue
            i += 1
        elif section:
            body, i = _body(lines, i + 1)
            found += ["", *_field(section[1], body), ""]
        else:
            block, i = _block(lines, i)
            found += [*block, ""]
    return found


def _body(lines, start):
    """The indented lines from `start` on, as a text, and the number of the line after them."""
    end = start
    while end < len(lines) and (not lines[end].strip() or lines[end].startswith(" ")):
        end += 1
    return textwrap.dedent("\n".join(lines[start:end])).strip("\n"), end


def _block(lines, start):
    """The block that begins at line `start`, and the number of the line after it."""
    line = lines[start]
    if not line.strip():
        return [], start + 1
    if line.startswith(" "):
        body, end = _body(lines, start)
        return _literal(body), end
    end = start
    while end < len(lines) and lines[end].strip() and not (end > start and _SECTION.match(lines[end])):
        end += 1
    block = lines[start:end]
    if line.startswith(">>> "):
        return block, end
    if _ITEM.match(line):
        return _items(lines, start)
    if len(block) > 1 and all(re.search(r"\S {3,}\S", row) for row in block):  # aligned columns
        return _literal("\n".join(block)), end
    for i, row in enumerate(block[1:], 1):  # a list or a formula right below its text
        if _ITEM.match(row) or (row.startswith(" ") and block[i - 1].endswith(":")):
            return escape("\n".join(block[:i])).splitlines(), start + i
    return escape("\n".join(row.strip() for row in block)).splitlines(), end


def _items(lines, start):
    end = start
    while end < len(lines) and (_ITEM.match(lines[end]) or lines[end].startswith(" ")):
        end += 1
    found = []
    for item in re.split(r"\n(?=(?:[-*]|\d+\.) )", "\n".join(lines[start:end])):
        mark, text = item.split(" ", 1)
        first, *rest = text.splitlines()
        text = escape("\n".join([first, *(row.strip() for row in rest)]))
        found += textwrap.indent(text, " " * (len(mark) + 1)).replace(" " * len(mark), mark, 1).splitlines()
    return ["", *found, ""], end


def _literal(text):
    language = "python" if _is_python(text) else "none"
    return ["", f".. code-block:: {language}", "   :class: formula" if language == "none" else "", "",
            *textwrap.indent(text, "   ").splitlines(), ""]  # fmt: skip


def _is_python(text):
    if text.startswith(">>> "):
        return True
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return bool(_PYTHON.search(text))


def _field(section, body):
    if section in TEXTS:
        first, *rest = _trimmed(to_rst(body))
        return [f":{TEXTS[section]}: {first}", *textwrap.indent("\n".join(rest), "   ").splitlines()]
    found = [f":{LISTS[section]}:"]
    for entry in re.split(r"\n(?=\S)", body):
        names, colon, text = entry.partition(":")
        first, _, rest = text.strip().partition("\n")
        text = _trimmed(to_rst(first + "\n" + textwrap.dedent(rest))) if colon else []
        names = ", ".join(f"**{escape(name.strip())}**" for name in names.split(","))
        found += [f"   * {names}{' – ' + text[0] if text else ''}", *(f"     {line}" for line in text[1:])]
    return found


def _trimmed(lines):
    return "\n".join(lines).strip("\n").splitlines() or [""]


def escape(text):
    """Plain text with backticks as reStructuredText."""
    found, end = [], 0
    for span in _SPAN.finditer(text):
        found += [_plain(text[end : span.start()]), _code(text, span)]
        end = span.end()
    return "".join([*found, _plain(text[end:])])


def _plain(text):
    text = re.sub(r"([\\*|`])", r"\\\1", text)
    text = re.sub(r"(?<=\w)_(?!\w)", r"\\_", text)
    return re.sub(r"\barXiv:(\d{4}\.\d{4,5})", r"`arXiv:\1 <https://arxiv.org/abs/\1>`__", text)


def _code(text, span):
    before = "\\ " if span.start() and text[span.start() - 1].isalnum() else ""
    after = "\\ " if span.end() < len(text) and text[span.end()].isalnum() else ""
    inside = re.sub(r"\s+", " ", span[2]).strip().replace("\\", "\\\\").replace("`", "\\`")
    return f"{before}:literal:`{inside}`{after}"
