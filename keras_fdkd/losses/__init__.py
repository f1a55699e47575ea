"""Losses between the outputs of a teacher and those of a student."""

from keras_fdkd.losses.afd import AFD
from keras_fdkd.losses.at import AT
from keras_fdkd.losses.binary_kd import BinaryKD
from keras_fdkd.losses.crd import CRD
from keras_fdkd.losses.cross_modal_loss import CrossModalLoss
from keras_fdkd.losses.dist import DIST
from keras_fdkd.losses.dkd import DKD
from keras_fdkd.losses.fitnet import FitNet
from keras_fdkd.losses.frequency_distillation import FrequencyDistillation
from keras_fdkd.losses.kd import KD
from keras_fdkd.losses.log_mean_squared_error import LogMeanSquaredError
from keras_fdkd.losses.pkd import PKD
from keras_fdkd.losses.rkd import RKD

__all__ = [
    "AFD",
    "AT",
    "CRD",
    "DIST",
    "DKD",
    "KD",
    "PKD",
    "RKD",
    "BinaryKD",
    "CrossModalLoss",
    "FitNet",
    "FrequencyDistillation",
    "LogMeanSquaredError",
]
