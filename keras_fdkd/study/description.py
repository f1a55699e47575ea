"""What a study is, in words and numbers that fit into a file."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_fdkd.study.identity import identity
from keras_fdkd.study.work import Work


def described(
    work: Work, budgets: Sequence[int | None], cv: Any, warnings: Sequence[str]
) -> dict[str, Any]:
    """Return what a study is, as its folder and its results hold it.

    Args:
        work: Its data, models, methods and protocol.
        budgets: How many training samples keep their labels.
        cv: As given to the study.
        warnings: What its results warn of.
    """
    return {
        "score": work.protocol.score,
        "mode": work.protocol.mode,
        "budgets": list(budgets),
        "labelled": int(np.mean([work.labels.labelled[s.train].sum() for s in work.splits])),
        "methods": {
            name: {
                "title": method.title,
                "candidates": list(method.candidates),
                "space": {key: str(one) for key, one in method.space.items()},
            }
            for name, method in work.methods.items()
        },
        "seeds": list(work.seeds),
        "trials": work.trials,
        "cv": "given rows" if isinstance(cv, (list, tuple)) else str(cv),
        "splits": [
            {
                "train": len(split.train),
                "validation": len(split.validation),
                "test": len(split.test),
                "overlap": split.overlap,
            }
            for split in work.splits
        ],
        "given_teacher": work.build_teacher is None,
        "backend": keras.config.backend(),
        "warnings": list(warnings),
        "identity": identity(work),
    }
