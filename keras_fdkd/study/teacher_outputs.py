"""The teacher's pass: once for all methods that read the same of it."""

from typing import Any

import keras
import numpy as np

from keras_fdkd.data import cache_teacher
from keras_fdkd.study.rows import take
from keras_fdkd.study.work import Run, Work


def teacher_outputs(work: Work, run: Run, distiller: keras.Model, rows: np.ndarray) -> Any:
    """Return what a distiller reads of its teacher, by position in `rows`.

    A given teacher sees each sample once in the whole study; one that is trained in each split,
    once in that split.
    """
    is_given = work.build_teacher is None
    path = work.folder / "teacher_outputs" / ("given" if is_given else run.pair)
    # All splits share what a given teacher's cache holds, so it holds what any of them trains on.
    every = np.unique(np.concatenate([split.train for split in work.splits]))
    cache_teacher(
        distiller,
        _TeacherInputs(work.teacher_inputs, every if is_given else rows, work.protocol.batch_size),
        path,
        verbose=0,
    )
    # Samples are found by their index, so the student's inputs play no part.
    nothing = np.zeros((len(rows), 1), "float32")
    joined = cache_teacher(distiller, {"index": rows, "student": nothing}, path, verbose=0)
    return joined["teacher_outputs"]


class _TeacherInputs(keras.utils.PyDataset):
    """Pairs without a student, by row number."""

    def __init__(self, source: Any, rows: np.ndarray, batch_size: int) -> None:
        super().__init__()
        self.source, self.rows, self.batch_size = source, rows, batch_size

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, step: int) -> tuple[dict[str, Any], np.ndarray]:
        rows = self.rows[step * self.batch_size : (step + 1) * self.batch_size]
        nothing = np.zeros((len(rows), 1), "float32")
        return {"teacher": take(self.source, rows), "student": nothing, "index": rows}, nothing
