"Sphinx reads the notebooks that nb2myst.py has prepared in docs/_src; the cells are not run again, their saved outputs are shown"
import os, sys
sys.path.insert(0, os.path.dirname(__file__))   # for the slug function below: Sphinx pickles its name, so it can't be defined here
project = html_title = 'cv_recipe'
copyright = 'cv_recipe contributors, Apache-2.0'
root_doc = 'index'
extensions = ['myst_nb', 'sphinx.ext.githubpages']
source_suffix = {'.ipynb': 'myst-nb', '.md': 'myst-nb'}
nb_execution_mode, nb_render_markdown_format = 'off', 'myst'
myst_enable_extensions = ['dollarmath', 'amsmath', 'colon_fence', 'attrs_inline', 'alert', 'deflist']
myst_heading_anchors = 6
myst_heading_slug_func = 'nb2myst.slug'
suppress_warnings = ['myst.header', 'config.cache']
html_favicon = '_static/icon.svg'
html_theme, html_static_path, html_css_files, html_extra_path = 'furo', ['_static'], ['nbdev.css'], ['_extra']
