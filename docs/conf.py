"""How Sphinx builds the site: ``sphinx-build docs build/site`` from the root of a checkout.

The pages are those of this folder, which a code host shows as well. What only the site has is made here: pages for
other Markdown files of the repository, one page for each public object, the gallery, and ``llms.txt``.
"""

import sys
from pathlib import Path

import skl2rclip

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))

project = "skl2rclip"
author = copyright = "The skl2rclip developers"
version = release = skl2rclip.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "gallery_pages",
    "llms_txt",
    "public_names",
    "repository_pages",
]
nitpicky = True
# quotes and dashes stay as they are typed
smartquotes = False
exclude_patterns = ["_*", "gallery/index.rst"]
templates_path = ["_templates"]
# single backticks in docstrings: a link where the name is documented, else code
default_role = "py:obj"
show_warning_types = True

# ------------------------------------------------------------------ pages

myst_heading_anchors = 4
# a code host lets a heading and a name stand at the same level below a title
suppress_warnings = ["myst.header"]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# -------------------------------------------------------------- reference

autosummary_ignore_module_all = False
autosummary_imported_members = True
autodoc_typehints = "none"
toc_object_entries_show_parents = "hide"
autodoc_member_order = "groupwise"
numpydoc_show_class_members = False
numpydoc_attributes_as_param_list = True

# ---------------------------------------------------------------- gallery

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "ignore_pattern": "__init__",
    "download_all_examples": False,
    "doc_module": ("skl2rclip",),
    "backreferences_dir": "gallery/backreferences",
    # scripts with a command line, which are run as such: neither by the build nor in a notebook
    "plot_gallery": False,
    "inspect_global_variables": False,
    "notebook_extensions": set(),
    "write_computation_times": False,
    "remove_config_comments": True,
    "show_signature": False,
    "default_thumb_file": str(HERE / "_static" / "logo.svg"),
}

# -------------------------------------------------------------- appearance

html_theme = "pydata_sphinx_theme"
html_title = "skl2rclip"
html_logo = html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "logo": {"text": "skl2rclip"},
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_toc_level": 2,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["release"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
