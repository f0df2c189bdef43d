"""Links by name, in pages and docstrings alike.

`kd.samplers.get`, `UNet` or `model.generate` in backticks lead to the reference; `keras.layers.Dense` and `jax.jit` to
the pages of Keras, JAX and NumPy, of which `references.toml` keeps the addresses, so that a build needs no network.
arXiv:2206.00364 leads there. A link to a folder of the repository, which the site does not have, becomes its name.
"""

import re
import tomllib
from pathlib import Path

from docutils import nodes
from sphinx import addnodes

HERE = Path(__file__).resolve().parent.parent
_NAME = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*")
_ARXIV = re.compile(r"\barXiv:(\d{4}\.\d{4,5})")


def setup(app):
    app.connect("missing-reference", _outside)
    app.connect("doctree-read", _unlink_folders)
    app.connect("doctree-read", _link_papers)
    app.connect("doctree-resolved", _link_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _addresses():
    """{dotted name: address} of what other projects document."""
    if not hasattr(_addresses, "found"):
        table = tomllib.loads((HERE / "references.toml").read_text(encoding="utf-8"))
        _addresses.found = {
            name: part["base"] + part.get("pattern", "{}").format(page or name)
            for part in table.values()
            for name, page in part["pages"].items()
        }
    return _addresses.found


def _outside(app, env, node, contnode):
    """Names of Keras, JAX, NumPy and Python; helper classes of our own, in annotations, stay plain."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    if target in _addresses():
        return nodes.reference("", "", contnode, internal=False, refuri=_addresses()[target])
    return contnode if target.startswith("keras_diffusion.") else None


def _unlink_folders(app, doctree):
    """A folder has no page: its name remains."""
    here = Path(app.env.doc2path(app.env.docname)).parent
    for link in list(doctree.findall(addnodes.pending_xref)):
        if link.get("reftype") == "myst" and (here / link["reftarget"].partition("#")[0]).is_dir():
            link.replace_self(link.children)


def _link_papers(app, doctree):
    for text in list(doctree.findall(nodes.Text)):
        if isinstance(text.parent, (nodes.reference, nodes.literal, nodes.literal_block, nodes.title)):
            continue
        parts = _ARXIV.split(text)
        if len(parts) > 1 and text.parent is not None:
            found = []
            for i, part in enumerate(parts):
                uri = f"https://arxiv.org/abs/{part}"
                found.append(nodes.reference("", f"arXiv:{part}", refuri=uri) if i % 2 else nodes.Text(part))
            text.parent.replace(text, found)


def _link_names(app, doctree, docname):
    known = _known(app.env)
    here = None
    for literal in list(doctree.findall(nodes.literal)):
        if any(isinstance(above, (nodes.reference, nodes.title)) for above in _ancestors(literal)):
            continue
        name = literal.astext().removesuffix("()")
        if not _NAME.fullmatch(name):
            continue
        if name in _addresses():
            uri, internal = _addresses()[name], False
        else:
            here = _class_around(literal)
            place = known.get(f"{here}.{name}") or known.get(name)
            if place is None or (place[0] == docname and place[1] == here):
                continue
            uri, internal = f"{app.builder.get_relative_uri(docname, place[0])}#{place[1]}", True
        literal.replace_self(nodes.reference("", "", literal.deepcopy(), refuri=uri, internal=internal))


def _ancestors(node):
    while node.parent is not None:
        node = node.parent
        yield node


def _class_around(node):
    """Full name of the class in whose description a node is, or None."""
    for above in _ancestors(node):
        if above.tagname == "desc" and above.get("objtype") == "class":
            return above[0].get("fullname") and f"{above[0]['module']}.{above[0]['fullname']}"
    return None


def _known(env):
    """{name as it may be written: (page, anchor)} of all that the reference describes."""
    if not hasattr(env, "_known_names"):
        from keras_diffusion import predictors, samplers, schedulers, training

        objects = env.domains.python_domain.objects
        found, short = {}, {}
        for path, entry in objects.items():
            place = (entry.docname, entry.node_id)
            inner = path.removeprefix("keras_diffusion.")
            for name in (path, inner, f"kd.{inner}"):
                found[name] = place
            for name in (inner.partition(".")[2], inner.rpartition(".")[2]):
                if name[:1].isupper():
                    short.setdefault(name, []).append(place)
            if ".DiffusionModel" in path:
                rest = path.rpartition(".DiffusionModel")[2]
                for name in (f"model{rest}", f"kd.DiffusionModel{rest}", f"keras_diffusion.DiffusionModel{rest}"):
                    found.setdefault(name, place)
        found |= {name: places[0] for name, places in short.items() if len(set(places)) == 1}
        others = {
            *predictors.names(),
            *schedulers.names(),
            *schedulers.spacing_names(),
            *training.loss_weighting_names(),
        }
        for name, (cls, _) in samplers.SAMPLERS._entries.items():
            place = found.get(cls.__name__)
            if place and name not in others:
                found.setdefault(name, place)
        found.pop("model", None)
        env._known_names = found
    return env._known_names
