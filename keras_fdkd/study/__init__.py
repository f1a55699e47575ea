"""Does distillation help on your own pair, and which method? Needs the extra `study`."""

try:
    import cloudpickle  # noqa: F401
    import joblib  # noqa: F401
    import matplotlib  # noqa: F401
    import optuna  # noqa: F401
    import rich  # noqa: F401
    import scipy  # noqa: F401
    import sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(
        "`keras_fdkd.study` needs more than the package itself: install `keras-fdkd[study]`."
    ) from error

from keras_fdkd.study.advice import Advice, Recommendation
from keras_fdkd.study.method import Method
from keras_fdkd.study.method_table import methods
from keras_fdkd.study.results import Results
from keras_fdkd.study.statistics import Gain
from keras_fdkd.study.study import Study
from keras_fdkd.study.summary import Summary

__all__ = [
    "Advice",
    "Gain",
    "Method",
    "Recommendation",
    "Results",
    "Study",
    "Summary",
    "methods",
]
