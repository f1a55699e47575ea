"""The methods that recipes compare, beside no distillation."""

import dataclasses

from keras_fdkd.study import Method, methods

_BANDS = methods["fdcmkd"]
METHODS: dict[str, Method] = {
    **{name: methods[name] for name in ("kd", "dist", "pkd", "c2kd", "fdcmkd")},
    # The same features, weights and classifier, with one band: what the split itself is worth.
    "whole": dataclasses.replace(
        _BANDS,
        candidates=(
            {"scale": 1.0, "align_weight": 0.3, "cutoff": None},
            {"scale": 0.1, "align_weight": 0.03, "cutoff": None},
        ),
        space={name: one for name, one in _BANDS.space.items() if name != "cutoff"},
        title="unit variance, no split",
    ),
}
