"""The site: `make docs` builds it from the pages, the notebooks and the docstrings into build/site.

The source folder is the top of the repository, so that a relative link means the same on the site as it does where the
files lie: docs/sampling.md may name ../notebooks/04-samplers.ipynb or ../CONTRIBUTING.md.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from keras_diffusion.version import __version__  # noqa: E402

project = "keras_diffusion"
author = "the keras_diffusion authors"
copyright = "the keras_diffusion authors, MIT licence"
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "myst_nb",
    "_extensions.maths",
    "_extensions.docstrings",
    "_extensions.rooms",
    "_extensions.links",
]

# What belongs to the site. Everything else of the repository is not looked at.
root_doc = "docs/index"
include_patterns = [
    "docs/*.md",
    "docs/explanation/*.md",
    "docs/api/*.rst",
    "notebooks/README.md",
    "notebooks/*.ipynb",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "legacy_tf/README.md",
    "keras_diffusion/containers/README.md",
]
exclude_patterns = [".*", "build", "runs", "tests", "recipes", "benchmarks", "docs/README.md", "**/checkpoints"]

# Markdown and notebooks. Outputs are shown as they are stored: nothing runs here.
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".ipynb": "myst-nb"}
nb_execution_mode = "off"
nb_merge_streams = True
nb_code_prompt_show = "Show the {type}"
nb_code_prompt_hide = "Hide the {type}"
myst_enable_extensions = ["amsmath", "attrs_block", "attrs_inline", "colon_fence", "dollarmath", "html_image"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
suppress_warnings = ["mystnb.unknown_mime_type", "toc.empty_glob"]

# Docstrings. Only those that a class has itself: `plan` and `step` are described where they begin.
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_display_short_literal_types = True
add_module_names = False
toc_object_entries_show_parents = "hide"
default_role = "literal"
nitpicky = True
nitpick_ignore = [("py:class", "pathlib.Path")]  # of Python's own documentation, to which nothing links
smartquotes = False  # "midpoint" is what to type
viewcode_line_numbers = True

html_theme = "furo"
html_math_renderer = "katex"
html_title = "keras_diffusion"
html_static_path = ["_static"]
html_css_files = ["katex/katex.min.css", "site.css"]
html_js_files = ["katex/katex.min.js", "maths.js", "site.js"]
html_logo = html_favicon = "_static/logo.svg"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_permalinks_icon = "#"
html_theme_options = {
    "sidebar_hide_name": False,
    "navigation_with_keys": True,
    "top_of_page_buttons": [],
    "light_css_variables": {
        "color-brand-primary": "#1f5fa8",
        "color-brand-content": "#1f5fa8",
        "color-brand-visited": "#5b4a94",
        "font-stack": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', Helvetica, Arial, sans-serif",
        "font-stack--monospace": "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace",
    },
    "dark_css_variables": {
        "color-brand-primary": "#7fb4f0",
        "color-brand-content": "#7fb4f0",
        "color-brand-visited": "#b7a6ea",
    },
}
pygments_style = "friendly"
pygments_dark_style = "github-dark"


def setup(app):
    app.connect("html-page-context", _leave_out_navigation, priority=400)  # before furo, which renders it
    app.connect("build-finished", _write_entrance)


def _leave_out_navigation(app, pagename, templatename, context, doctree):
    """Pages of source code, four in five of all, do without the tree of pages: it would be half the time of a build."""
    if pagename.startswith("_modules/"):
        context["toctree"] = lambda **options: ""


def _write_entrance(app, error):
    """The site's top page leads to the start page, whose source lies in docs/ like all others."""
    if error is None and app.builder.format == "html":
        start = f"{root_doc}.html"
        (Path(app.outdir) / "index.html").write_text(
            f'<!doctype html><meta charset="utf-8"><title>{project}</title><meta http-equiv="refresh" content="0; '
            f'url={start}"><p><a href="{start}">{project}</a></p>\n',
            encoding="utf-8",
        )
