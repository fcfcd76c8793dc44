"""Modules:

- `cv_recipe.core`: What every other room stands on: findings, seeds, files that are whole or absent, and a choice of device"""

__version__ = "0.0.1"
