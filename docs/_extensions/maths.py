"""Maths by KaTeX, out of the site's own folder. `_static/maths.js` renders what this marks."""

from html import escape

from docutils import nodes


def setup(app):
    app.add_html_math_renderer("katex", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline(self, node):
    self.body.append(f'<span class="math" data-tex="inline">{escape(node.astext())}</span>')
    raise nodes.SkipNode


def _block(self, node):
    self.body.append(self.starttag(node, "div", CLASS="math", **{"data-tex": "block"}))
    self.body.append(f"{escape(node.astext().strip())}</div>\n")
    raise nodes.SkipNode
