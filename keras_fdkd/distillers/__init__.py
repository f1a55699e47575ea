"""Distillers: Keras models that train a student with a teacher."""

from keras_fdkd.distillers.cross_modal import CrossModalDistiller
from keras_fdkd.distillers.frequency import PUBLISHED, FrequencyDistiller

__all__ = ["PUBLISHED", "CrossModalDistiller", "FrequencyDistiller"]
