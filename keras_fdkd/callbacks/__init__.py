"""Callbacks for the `fit` of distillers."""

from keras_fdkd.callbacks.band_similarity import BandSimilarity
from keras_fdkd.callbacks.crash_safe_backup import CrashSafeBackup

__all__ = ["BandSimilarity", "CrashSafeBackup"]
