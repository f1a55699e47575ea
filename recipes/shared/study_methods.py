"""The methods that recipes compare, beside no distillation."""

from keras_fdkd.study import Method, methods
from recipes.benchmark.methods import METHODS as BENCHMARKED

METHODS: dict[str, Method] = {
    **{name: methods[name] for name in ("kd", "dist", "pkd", "c2kd", "fdcmkd")},
    # The same features and classifier, with one band: what the split itself is worth.
    "whole": BENCHMARKED["ours_whole"],
}
