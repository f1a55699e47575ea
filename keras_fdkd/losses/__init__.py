"""Losses between the features of a teacher and of a student."""

from keras_fdkd.losses.log_mean_squared_error import LogMeanSquaredError

__all__ = ["LogMeanSquaredError"]
