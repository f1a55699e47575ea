"""A small study, also in a process of its own, which a test kills."""

import sys

import keras
import numpy as np
from conftest import classifier, cross_entropy

from keras_fdkd.study import Study

COUNT = 60


def data(seed=0, classes=3):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=COUNT)
    middle = rng.normal(size=(classes, 6))[labels] + rng.normal(size=(COUNT, 6))
    student = (middle[:, :4] + rng.normal(size=(COUNT, 4))).astype("float32")
    return {"teacher_inputs": middle.astype("float32"), "student_inputs": student, "labels": labels}


def arguments(**changes):
    return {
        **data(),
        "build_teacher": lambda: classifier(6),
        "build_student": lambda: classifier(4),
        "methods": ["kd"],
        "compile": {
            "optimizer": keras.optimizers.Adam(0.01),
            "loss": cross_entropy(ignore_class=-1),
            "metrics": ["accuracy"],
        },
        "fit": {"epochs": 2, "batch_size": 16},
        "cv": 2,
        "trials": 1,
        **changes,
    }


ARGUMENTS = arguments(methods=["kd", "pkd"], trials=3, cv=3)

if __name__ == "__main__":
    Study(**ARGUMENTS, folder=sys.argv[1]).run(n_jobs=2, verbose=0)
