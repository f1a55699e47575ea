"""Losses between the features of a teacher and of a student."""

from keras_fdkd.losses.cross_modal_loss import CrossModalLoss
from keras_fdkd.losses.frequency_distillation import FrequencyDistillation
from keras_fdkd.losses.log_mean_squared_error import LogMeanSquaredError

__all__ = ["CrossModalLoss", "FrequencyDistillation", "LogMeanSquaredError"]
