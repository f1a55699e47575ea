"""PairedModel: a teacher and a student that see different inputs, trained as one Keras model."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fdkd.data import (
    STUDENT,
    TEACHER,
    TEACHER_OUTPUTS,
    check_finite,
    check_pair,
    check_samples,
    is_pair,
)
from keras_fdkd.distillers.align_loss import check_labels
from keras_fdkd.distillers.checks import check_disjoint, check_input_names
from keras_fdkd.distillers.resumable import Resumable
from keras_fdkd.distillers.teacher_pass import teacher_pass
from keras_fdkd.features import PREDICTIONS, FeatureTap
from keras_fdkd.fingerprints import fingerprint

_FINGERPRINT = "teacher_fingerprint"


class PairedModel(Resumable):
    """What every distiller of one teacher and one student does around its losses.

    It checks the data, runs the frozen teacher outside of differentiation, puts what is read of it
    into the batch, and leaves the rest of the step to Keras. A subclass defines `call`, which finds
    the teacher's outputs in its inputs, and `compute_loss`.

    Args:
        teacher: Built `keras.Model`, frozen in place.
        student: Built `keras.Model` with inputs of its own.
        reads: For `"teacher"` and `"student"`, what is read of the model, see
            `keras_fdkd.features.FeatureTap`.
        needs_index: Whether training data must number their samples.
        **kwargs: See `keras.Model`.

    Raises:
        ValueError: If a model is not a built `keras.Model`, a feature cannot be found, or the
            models share layers.
    """

    _align_loss: Any = None  # the cross-entropy of logits that a subclass adds, once compiled
    _fingerprint_read: str | None = None

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        reads: Mapping[str, Mapping[str, Any]],
        needs_index: bool = False,
        **kwargs: Any,
    ) -> None:
        teacher_tap, student_tap = (
            FeatureTap(
                model,
                {name: path for name, path in reads[role].items() if name != PREDICTIONS},
                role,
            )
            for role, model in ((TEACHER, teacher), (STUDENT, student))
        )
        # Loss scaling follows the dtype policy: it is the student that trains.
        kwargs.setdefault("dtype", student.dtype_policy)
        super().__init__(**kwargs)
        self.autocast = False  # Each model casts its own inputs.
        check_disjoint(teacher, student)
        check_input_names(student)
        self.teacher = teacher
        self.student = student
        self._teacher_tap = teacher_tap
        self._student_tap = student_tap
        self._teacher_reads = set(reads[TEACHER])
        self._needs_index = needs_index
        self._freeze_teacher()
        # Training runs its layers through the tap; Keras exports models that were called.
        if hasattr(student, "input"):
            student(student.input)
        elif getattr(student, "inputs", None):  # sequential
            student(student.inputs[0])
        if isinstance(student_tap.spec[PREDICTIONS], (list, tuple)):
            self.output_names = student.output_names  # Losses and metrics by name, as in Keras.

    def _freeze_teacher(self) -> None:
        self.teacher.trainable = False
        for variable in self.teacher.variables:
            # Not all layers hear of it: those of a KerasHub backbone loaded on TensorFlow do not.
            variable.trainable = False

    @property
    def trainable(self) -> bool:
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        keras.Model.trainable.fset(self, value)
        self._freeze_teacher()  # Keras recurses into sublayers.

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        self._freeze_teacher()
        return super().train_on_batch(*args, **kwargs)

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train the student, see `keras.Model.fit`.

        Args:
            x: `{"teacher": inputs, "student": inputs}`, each side any nested structure of arrays;
                the teacher's outputs may stand in for its inputs, as
                `"teacher_outputs": {"features": array}`, with what the losses read of it;
                `"index"`, the number of each sample, for losses that ask for it;
                or a `tf.data.Dataset`, `keras.utils.PyDataset` or torch `DataLoader` of
                `(x, y)` or `(x, y, sample_weight)`. Validation data may hold the student's
                inputs alone.
            y: Labels of the student's task.
            *args: See `keras.Model.fit`.
            **kwargs: See `keras.Model.fit`.

        Returns:
            A `keras.callbacks.History`.

        Raises:
            ValueError: If the sides differ in their samples, arrays hold NaN or infinity, or labels
                are out of range. Data sets, and arrays in files, are not read beforehand:
                `keras_fdkd.data.checked` looks at their batches.
        """
        self._freeze_teacher()
        # Anything but arrays is a data set, which yields the pair: `train_step` checks it.
        if y is not None or is_pair(x):
            self._check_pair(x)
            check_finite(x)
            self._check_labels(y)
        validation = kwargs.get("validation_data")
        if isinstance(validation, (list, tuple)) and is_pair(validation[0]):
            check_samples(validation[0])
        return super().fit(x, y, *args, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Measure the student, and the terms if `x` is a pair, see `keras.Model.evaluate`.

        Raises:
            ValueError: If the sides of a pair differ in their number of samples.
        """
        if is_pair(x):
            check_samples(x)
        return super().evaluate(x, y, *args, **kwargs)

    def predict_teacher(self, inputs: Any, batch_size: int | None = None) -> dict[str, Any]:
        """Run the teacher once over its inputs.

        Args:
            inputs: Of the teacher, arrays.
            batch_size: See `keras.Model.predict`.

        Returns:
            Dict of NumPy arrays, what training reads of the teacher. As `"teacher_outputs"` it
            stands in for `"teacher"` in the data, and training then runs no teacher. What the
            teacher's inputs would be augmented by is left out.
        """
        outputs = self._teacher_tap.predict(inputs, batch_size)
        return {name: outputs[name] for name in self._teacher_reads}

    def train_step(self, *args: Any) -> Any:
        *state, data = args
        return super().train_step(*state, self._with_teacher_outputs(data, *state, train=True))

    def test_step(self, *args: Any) -> Any:
        *state, data = args
        return super().test_step(*state, self._with_teacher_outputs(data, *state, train=False))

    def _with_teacher_outputs(self, data: Any, state: Any = None, *, train: bool) -> Any:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if train:
            self._check_pair(x)
        if is_pair(x) and TEACHER in x:
            values = None if state is None else state[1]
            outputs = self._run_teacher(x[TEACHER], self.non_trainable_variables, values)
            x = {**{key: x[key] for key in x if key != TEACHER}, TEACHER_OUTPUTS: outputs}
        return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)

    def _run_teacher(self, inputs: Any, variables: list, values: list | None) -> Any:
        """Return what `call` reads of the teacher. `variables` are those of the trained model."""
        return teacher_pass(self._teacher_tap, inputs, variables, values)

    def _check_pair(self, x: Any) -> None:
        check_pair(x, self._teacher_reads, self._needs_index)

    def _check_labels(self, y: Any) -> None:
        if self._align_loss is not None and hasattr(y, "shape"):
            classes = self._student_tap.spec[PREDICTIONS].shape[-1]
            check_labels(ops.convert_to_numpy(y), self._align_loss, classes)

    def _frozen_teachers(self) -> list[keras.Model]:
        return [self.teacher]

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        for teacher in self._frozen_teachers():
            store[_FINGERPRINT] = np.frombuffer(fingerprint(teacher).encode(), "uint8")

    def load_own_variables(self, store: Any) -> None:
        names = list(store.keys())
        super().load_own_variables({name: store[name] for name in names if name != _FINGERPRINT})
        self._fingerprint_read = None
        if _FINGERPRINT in names:
            self._fingerprint_read = bytes(np.asarray(store[_FINGERPRINT])).decode()

    def _check_teacher(self, filepath: Any) -> None:
        wanted = self._fingerprint_read
        for teacher in self._frozen_teachers():
            if wanted not in (None, came := fingerprint(teacher)):
                raise ValueError(
                    "The file holds no teacher and was written beside another one than this "
                    f"distiller's. Build the distiller with the teacher of fingerprint {wanted} "
                    "(`keras_fdkd.fingerprint` tells), or pass `skip_mismatch=True` to go on with "
                    f"this one. Received: '{filepath}', and teacher '{teacher.name}' of "
                    f"fingerprint {came}."
                )
