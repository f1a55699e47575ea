"""Callbacks for the `fit` of distillers."""

from keras_fdkd.callbacks.band_similarity import BandSimilarity
from keras_fdkd.callbacks.crash_safe_backup import CrashSafeBackup
from keras_fdkd.callbacks.weight_schedule import WeightSchedule

__all__ = ["BandSimilarity", "CrashSafeBackup", "WeightSchedule"]
