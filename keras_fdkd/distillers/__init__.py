"""Distillers: Keras models that train a student with a teacher."""

from keras_fdkd.distillers.c2kd import C2KDDistiller
from keras_fdkd.distillers.cross_modal import CrossModalDistiller
from keras_fdkd.distillers.frequency import PUBLISHED, FrequencyDistiller
from keras_fdkd.distillers.mutual import MutualDistiller

__all__ = [
    "PUBLISHED",
    "C2KDDistiller",
    "CrossModalDistiller",
    "FrequencyDistiller",
    "MutualDistiller",
]
