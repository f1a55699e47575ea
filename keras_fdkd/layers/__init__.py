"""Layers of frequency-decoupled distillation."""

from keras_fdkd.layers.band_classifier import BandClassifier
from keras_fdkd.layers.feature_projector import FeatureProjector
from keras_fdkd.layers.frequency_split import FrequencySplit
from keras_fdkd.layers.standardize import Standardize

__all__ = ["BandClassifier", "FeatureProjector", "FrequencySplit", "Standardize"]
