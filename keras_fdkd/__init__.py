"""Cross-modal knowledge distillation in Keras 3, on JAX, PyTorch and TensorFlow."""

from keras_fdkd import analysis, callbacks, layers, losses
from keras_fdkd.distillers import (
    PUBLISHED,
    C2KDDistiller,
    CrossModalDistiller,
    FrequencyDistiller,
    MutualDistiller,
)
from keras_fdkd.ensemble import Ensemble
from keras_fdkd.fingerprints import fingerprint
from keras_fdkd.fit_safely import fit_safely
from keras_fdkd.logits_view import logits_view
from keras_fdkd.recorded_teacher import RecordedTeacher
from keras_fdkd.torch_teacher import from_torch

__version__ = "0.1.0"

__all__ = [
    "PUBLISHED",
    "C2KDDistiller",
    "CrossModalDistiller",
    "Ensemble",
    "FrequencyDistiller",
    "MutualDistiller",
    "RecordedTeacher",
    "__version__",
    "analysis",
    "callbacks",
    "fingerprint",
    "fit_safely",
    "from_torch",
    "layers",
    "logits_view",
    "losses",
]
