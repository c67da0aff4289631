"""How Sphinx builds the documentation: ``sphinx-build -W --keep-going -b html docs docs/_build``."""

import re

from click import Context
from sphinx.application import Sphinx

from iimt_search import __version__

project = "iimt-search"
author = "the authors of iimt-search"
release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
exclude_patterns = ["_build", "_ext"]
html_theme = "furo"
html_show_copyright = False
html_title = f"iimt-search {release}"

# `$…$` and `$$…$$`, which GitHub draws, too.
myst_enable_extensions = ["dollarmath"]
# Links to headings, as GitHub names them.
myst_heading_anchors = 3

autodoc_member_order = "bysource"
# "Attributes:" of a docstring as a list, not as directives that autodoc's members would repeat.
napoleon_use_ivar = True


def _options_as_code(app: Sphinx, context: Context, lines: list[str]) -> None:
    """Mark options that a help text names, whose hyphens would become a dash otherwise."""
    for at, line in enumerate(lines):
        if not line.startswith(".. option::"):
            lines[at] = re.sub(r"(?<![\w`-])(--\w[\w-]*)", r"``\1``", line)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("sphinx-click-process-options", _options_as_code)
