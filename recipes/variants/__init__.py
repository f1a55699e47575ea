"""Variants of the method, screened on validation folds."""
