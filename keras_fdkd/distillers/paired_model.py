"""PairedModel: a teacher and a student that see different inputs, trained as one Keras model."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_fdkd.data.class_weights import with_class_weight
from keras_fdkd.data.pairs import (
    STUDENT,
    TEACHER,
    TEACHER_OUTPUTS,
    TEACHER_WEIGHT,
    check_pair,
    check_samples,
    is_pair,
)
from keras_fdkd.distillers.checks import check_input_names
from keras_fdkd.distillers.data_checks import DataChecks, check_shapes, guarded
from keras_fdkd.distillers.labels import LabelRule
from keras_fdkd.distillers.presence import without_absent
from keras_fdkd.distillers.task import loss_of_output
from keras_fdkd.distillers.teachers import FrozenTeacher, check_teacher
from keras_fdkd.distillers.training_model import TrainingModel
from keras_fdkd.features import PREDICTIONS, FeatureTap
from keras_fdkd.model_checks import check_disjoint, check_own_training, check_preprocessor

_FINGERPRINT = "teacher_fingerprint"


class PairedModel(TrainingModel):
    """What every distiller of one teacher and one student does besides its losses.

    It checks the data, runs the teacher, puts what is read of it into the batch, and leaves the
    rest of the step to Keras. A subclass defines `call`, which finds the teacher's outputs in its
    inputs, and `compute_loss`.

    Args:
        teacher: Built `keras.Model`, `RecordedTeacher`, or a dict of these by name.
        student: Built `keras.Model` with its own inputs.
        reads: For `"teacher"` and `"student"`, what is read of the model, see
            `keras_fdkd.features.FeatureTap`.
        indexed: Losses for which training data must number their samples.
        **kwargs: See `keras.Model`.

    Raises:
        ValueError: If a model is not a built `keras.Model`, has a preprocessor or its own training
            step that would be bypassed, a feature cannot be found, or the models share layers.
    """

    _teacher_class = FrozenTeacher  # how the teacher takes part
    _allows_missing_labels = False  # NaN for a sample without labels
    _fingerprint_read: str | None = None

    def __init__(
        self,
        teacher: Any,
        student: keras.Model,
        reads: Mapping[str, Mapping[str, Any]],
        indexed: tuple[Any, ...] = (),
        **kwargs: Any,
    ) -> None:
        check_teacher(teacher)
        side = self._teacher_class(teacher, reads[TEACHER])
        paths = {name: path for name, path in reads[STUDENT].items() if name != PREDICTIONS}
        student_tap = FeatureTap(student, paths, STUDENT)
        check_preprocessor(student, STUDENT)
        check_own_training(student)
        for model in side.models:
            check_preprocessor(model, TEACHER)
            check_disjoint(model, student)
        check_input_names(student)
        # Loss scaling follows the dtype policy, and it is the student that trains.
        kwargs.setdefault("dtype", student.dtype_policy)
        super().__init__(**kwargs)
        self.autocast = False  # Each model casts its own inputs.
        self.supports_masking = True  # Recorded outputs may carry masks.
        self.teacher = teacher
        self.student = student
        self._teacher = side
        self._student_tap = student_tap
        self._indexed = indexed
        # Training runs its layers through the tap; Keras exports only models that were called.
        if hasattr(student, "input"):
            student(student.input)
        elif getattr(student, "inputs", None):  # sequential
            student(student.inputs[0])
        if not isinstance(student_tap.spec[PREDICTIONS], Mapping):
            # Losses and metrics by name, as in Keras.
            self.output_names = getattr(student, "output_names", None)

    @property
    def _teacher_tap(self) -> Any:
        return self._teacher.tap

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train the student, see `keras.Model.fit`.

        Args:
            x: Dict `{"teacher": inputs, "student": inputs}`, each side any nested structure of
                arrays; with several teachers, `"teacher"` is a dict by their names. In place of the
                teacher's inputs its outputs may be given, as
                `"teacher_outputs": {"features": array}`, with everything that the losses read.
                Optional entries: `"teacher_weight"`, how much the teacher counts for each sample
                (or position), 0 where it is missing: the inputs of such a sample, even NaN, are
                then ignored, and the terms of distillation are means over what remains; `"index"`,
                the number of each sample, for losses that need it. Or a `tf.data.Dataset`,
                `keras.utils.PyDataset` or torch `DataLoader` of `(x, y)` or
                `(x, y, sample_weight)`. Validation data may hold the student's inputs only.
            y: Labels of the student's task.
            *args: See `keras.Model.fit`.
            **kwargs: See `keras.Model.fit`.

        Returns:
            A `keras.callbacks.History`.

        Raises:
            ValueError: If the sides differ in their samples, arrays hold NaN or infinity, or labels
                are out of range. Of a data set only the first batches are checked;
                `keras_fdkd.data.checked` checks all of them. Arrays in files are not read
                beforehand.
        """
        checks = self._data_checks()
        # Anything but arrays is a data set that yields pairs.
        if y is not None or is_pair(x):
            checks.arrays(x, y)
            self._check_ends(x)
        else:
            x = guarded(x, checks)
            x, kwargs = with_class_weight(x, kwargs)
        validation = kwargs.get("validation_data")
        if isinstance(validation, (list, tuple)) and is_pair(validation[0]):
            self._check_evaluated(validation[0])
        self._teacher.hold(True)
        try:
            return super().fit(x, y, *args, **kwargs)
        finally:
            self._teacher.hold(False)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Measure the student, and the terms if `x` is a pair, see `keras.Model.evaluate`.

        Raises:
            ValueError: If the sides of a pair differ in their number of samples, or the teacher's
                outputs are not what the losses read.
        """
        if is_pair(x):
            self._check_evaluated(x)
        return super().evaluate(x, y, *args, **kwargs)

    def predict_teacher(self, inputs: Any, batch_size: int | None = None) -> dict[str, Any]:
        """Run the teacher once over its inputs.

        Args:
            inputs: Inputs of the teacher, arrays.
            batch_size: See `keras.Model.predict`.

        Returns:
            Dict of NumPy arrays, with what training reads of the teacher and, where its outputs
            carry a Keras mask, the mask as `"features_mask"` of shape `(samples, ..., 1)`. Put into
            the data as `"teacher_outputs"`, it replaces `"teacher"`, and training then does not run
            the teacher. The teacher's inputs are then not augmented in training.
        """
        outputs = self._teacher.tap.predict(inputs, batch_size)
        return {name: outputs[name] for name in self._teacher.run_reads() if name in outputs}

    def _with_teacher_outputs(self, data: Any, state: Any = None, *, train: bool) -> Any:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if train:
            self._check_pair(x)
        if is_pair(x) and TEACHER in x:
            values = None if state is None else state[1]
            step = self._step_number(state) if train else None
            inputs = without_absent(x[TEACHER], x.get(TEACHER_WEIGHT))
            outputs = self._run_teacher(inputs, self.non_trainable_variables, values, step)
            outputs = {**x.get(TEACHER_OUTPUTS, {}), **outputs}
            x = {**{key: x[key] for key in x if key != TEACHER}, TEACHER_OUTPUTS: outputs}
        return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)

    def _run_teacher(self, inputs: Any, variables: list, values: list | None, step: Any) -> Any:
        """Return what `call` reads of the teacher. `variables` are those of the trained model."""
        return self._teacher.before_step(inputs, variables, values, step)

    def _check_pair(self, x: Any) -> None:
        check_pair(x, self._teacher.needs, bool(self._indexed))
        if TEACHER_OUTPUTS in x:
            check_shapes(x[TEACHER_OUTPUTS], self._teacher_shapes())

    def _check_evaluated(self, x: Any) -> None:
        check_samples(x)
        if TEACHER_OUTPUTS in x:
            self._check_pair(x)

    def _teacher_shapes(self) -> dict[str, tuple[int | None, ...]]:
        spec = self._teacher.tap.spec
        return {
            self._teacher.data_name(name): tuple(spec[name].shape)
            for name in self._teacher.reads
            if not keras.tree.is_nested(spec[name])
        }

    def _data_checks(self) -> DataChecks:
        """Return what training data must be."""
        loss = getattr(self, "loss", None)
        predictions = self._student_tap.spec[PREDICTIONS]
        return DataChecks(
            teacher_shapes=self._teacher_shapes(),
            needs=self._teacher.needs,
            logits=self._compared_logits(),
            probabilities=frozenset(map(self._teacher.data_name, self._teacher_tap.converted)),
            label_rule=LabelRule.of(
                loss_of_output(loss, None),
                predictions,
                loss is not None or self._has_heads(),
                self._allows_missing_labels,
            ),
            indexed=self._indexed,
        )

    def _has_heads(self) -> bool:
        """Whether a subclass has layers that need labels."""
        return False

    def _compared_logits(self) -> frozenset[str]:
        """Return the names of the teacher's outputs that are compared as logits."""
        return frozenset()

    def _check_ends(self, x: Any) -> None:
        """Raise if outputs whose meaning the graph does not tell look like probabilities."""

    def _frozen_teachers(self) -> list[keras.Model]:
        return self._teacher.models if self._teacher.is_frozen else []

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        if self._frozen_teachers():
            # Files of weights hold arrays of numbers, not texts.
            store[_FINGERPRINT] = np.frombuffer(self._teacher.fingerprint().encode(), "uint8")

    def load_own_variables(self, store: Any) -> None:
        names = list(store.keys())
        super().load_own_variables({name: store[name] for name in names if name != _FINGERPRINT})
        self._fingerprint_read = None
        if _FINGERPRINT in names:
            self._fingerprint_read = bytes(np.asarray(store[_FINGERPRINT])).decode()

    def _check_teacher(self, filepath: Any) -> None:
        wanted = self._fingerprint_read
        if not self._frozen_teachers() or wanted is None:
            return
        if wanted != (came := self._teacher.fingerprint()):
            names = ", ".join(f"teacher '{model.name}'" for model in self._frozen_teachers())
            raise ValueError(
                "The file holds no teacher and was written beside another one than this "
                f"distiller's. Build the distiller with the teacher of fingerprint {wanted} "
                "(`keras_fdkd.fingerprint` tells), or pass `skip_mismatch=True` to continue with "
                f"this one. Received: '{filepath}', and {names} of fingerprint {came}."
            )
