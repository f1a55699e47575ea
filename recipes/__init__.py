"""Runnable experiments of keras-fdkd: `python -m recipes.NAME --help`."""
