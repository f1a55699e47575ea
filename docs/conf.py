"""Settings of the documentation, which `python -m nox -s docs` builds without a network."""

import inspect
import os
import re
from importlib.metadata import version as version_of

# Guides run as they are read: on one backend, quietly.
os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

project = "keras-fdkd"
author = "The keras-fdkd authors"
copyright = "2026, the keras-fdkd authors"  # Sphinx reads it by this name.
version = release = version_of("keras-fdkd")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_nb",
    "sphinx_gallery.gen_gallery",
]
html_theme = "furo"
html_title = f"keras-fdkd {release}"
exclude_patterns = [
    "_build",
    "gallery/*",
    # What sphinx-gallery writes beside its pages.
    *(f"pictures/*.{kind}" for kind in ("ipynb", "py", "json", "zip", "md5")),
    "**/sg_execution_times.rst",
    "sg_execution_times.rst",
]
nitpicky = True  # A reference that leads nowhere fails the build.
nitpick_ignore_regex = [
    # Of other projects, whose inventories a build without a network cannot read.
    (r"py:.*", r"(keras|numpy|np|optuna|matplotlib|collections|pathlib|torch)(\..*)?"),
    (r"py:.*", r"(Any|Callable|Mapping|Sequence|Iterator|Iterable|Path|ndarray|optional|Ellipsis)"),
]

# Docstrings write code in single backticks, as Keras's do.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # Overrides keep the docstrings of Keras, in Markdown.
autodoc_typehints = "none"  # The docstrings say them, with shapes and units.
autodoc_default_options = {"members": True, "exclude-members": "call, build, get_config"}
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_custom_sections = [("Call args", "params_style"), "Logs", "Streams"]
napoleon_use_ivar = True

myst_enable_extensions = ["colon_fence", "dollarmath", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "pictures",
    "filename_pattern": r"/plot_",
    "download_all_examples": False,
    "show_memory": False,
    "abort_on_example_error": True,
}

_LINK = re.compile(r"\[([^\]]+)\]\((https?://[^)\s]+)\)")
_SECTION = re.compile(r"[A-Z][a-z]+( args)?:$")


def as_docutils_reads(_app, _what, _name, _object, _options, lines):
    """Turn what docstrings have of Markdown into what docutils and Napoleon read."""
    found, is_example = [], False
    for line in lines:
        if _SECTION.match(line):
            is_example = line == "Example:"
            found.append(line)
        else:
            # Examples stand at the margin, as Keras's do; a section has to be indented.
            text = _LINK.sub(r"`\1 <\2>`__", line)
            found.append(f"    {text}" if is_example and text else text)
    lines[:] = found


def signature_of_init(_app, what, _name, found, _options, _signature, _returns):
    """Return the signature of a class's `__init__`: Keras's `__new__` takes anything."""
    if what != "class":
        return None
    signature = inspect.signature(found.__init__)
    rest = [one.replace(annotation=one.empty) for one in list(signature.parameters.values())[1:]]
    return str(signature.replace(parameters=rest, return_annotation=signature.empty)), None


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-signature", signature_of_init)
    app.connect("autodoc-process-docstring", as_docutils_reads, priority=400)
