"""Layers that frequency-decoupled distillation, and the losses, are made of."""

from keras_fdkd.layers.band_classifier import BandClassifier
from keras_fdkd.layers.contrastive_memory import ContrastiveMemory
from keras_fdkd.layers.feature_projector import FeatureProjector
from keras_fdkd.layers.feature_regressor import FeatureRegressor
from keras_fdkd.layers.frequency_split import FrequencySplit
from keras_fdkd.layers.layer_attention import LayerAttention
from keras_fdkd.layers.logit_proxy import LogitProxy
from keras_fdkd.layers.standardize import Standardize
from keras_fdkd.layers.step_resampler import StepResampler

__all__ = [
    "BandClassifier",
    "ContrastiveMemory",
    "FeatureProjector",
    "FeatureRegressor",
    "FrequencySplit",
    "LayerAttention",
    "LogitProxy",
    "Standardize",
    "StepResampler",
]
