"""What `speed` times: our distiller, the least it could cost, and what else there is."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fdkd import CrossModalDistiller, FrequencyDistiller
from keras_fdkd.data import cache_teacher
from keras_fdkd.distillers.teacher_pass import teacher_pass
from recipes.performance.speed_models import CLASSES, Pair

LIMIT, AGAIN, WAITING = "limit", "limit, a second one", "limit that waits"
OURS, SAME = "FrequencyDistiller", "CrossModalDistiller, loss of keras.distillation"
KERAS, ALONE, CACHED = "keras.distillation", "student alone", "FrequencyDistiller, cached teacher"
TERMS = "terms alone"
TWO, TWO_LIMIT = "two teachers", "limit of two teachers"
ALONE_SET = "student alone, data set"
CACHED_SET, INDEXED = "cached teacher, data set", "cached teacher, data set with index"

Trainer = tuple[keras.Model, Any, Any]  # a compiled model, and the `x` and `y` of its `fit`


class Limit(keras.Model):
    """The least that distillation can cost: a teacher pass and a plain step of the student.

    Args:
        teacher: Frozen in place.
        student: Trained.
        waits: Whether the student's gradients wait for the teacher, as those of any distillation
            must. If not, TensorFlow computes both side by side.
    """

    def __init__(self, teacher: keras.Model, student: keras.Model, waits: bool = False) -> None:
        super().__init__()
        self.waits = waits
        self.autocast = False
        self.teacher, self.student = teacher, student
        teacher.trainable = False
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.student(inputs["student"], training=training)

    def train_step(self, *args: Any) -> Any:
        *state, data = args
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        values = state[0][1] if state else None
        outputs = teacher_pass(self.teacher, x["teacher"], self.non_trainable_variables, values)
        return super().train_step(*state, ({"student": x["student"], "outputs": outputs}, y))

    def compute_loss(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None, training: bool = True
    ) -> Any:
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if "outputs" in x:
            # Compilers drop a pass whose result is unused, or multiplied by zero.
            trace = 1e-20 * ops.mean(x["outputs"])
            loss = loss * (1.0 + trace) if self.waits else loss + trace
        return loss


def _side_by_side(first: keras.Model, second: keras.Model) -> keras.Model:
    """Return two models of the same inputs as one."""
    inputs = keras.Input(first.input_shape[1:])
    second = keras.Model(second.inputs, second.outputs[0], name="second")
    joined = keras.layers.Concatenate()([first(inputs), second(inputs)])
    return keras.Model(inputs, joined)


class Samples(keras.utils.PyDataset):
    """Batches of arrays in memory."""

    def __init__(self, x: Any, y: np.ndarray, batch_size: int) -> None:
        super().__init__()
        self.x, self.y, self.batch_size = x, y, batch_size

    def __len__(self) -> int:
        return len(self.y) // self.batch_size

    def __getitem__(self, step: int) -> Any:
        rows = slice(step * self.batch_size, (step + 1) * self.batch_size)
        return keras.tree.map_structure(lambda values: values[rows], self.x), self.y[rows]


def samples(pair: Pair, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return random inputs and labels of one epoch."""
    rng = np.random.default_rng(seed)
    count = pair.steps * pair.batch_size
    inputs = rng.normal(size=(count, *pair.shape)).astype("float32")
    if len(pair.shape) == 2:  # Sequences of any length, padded with zeros.
        lengths = rng.integers(pair.shape[0] // 2, pair.shape[0] + 1, size=count)
        inputs[np.arange(pair.shape[0]) >= lengths[:, None]] = 0
    return inputs, rng.integers(CLASSES, size=(count, *pair.positions))


def trainers(pair: Pair) -> dict[str, Callable[[], Trainer]]:
    """Return what makes each trainer, by name, each with models of its own."""
    inputs, y = samples(pair)
    both = {"teacher": inputs, "student": inputs}

    def compiled(model: keras.Model) -> keras.Model:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(pair.optimizer(), loss=loss, metrics=["accuracy"])
        return model

    def models() -> tuple[keras.Model, keras.Model]:
        return pair.make("teacher"), pair.make("student")

    def ours() -> FrequencyDistiller:
        taps = {"teacher_features": pair.feature, "student_features": pair.feature}
        return FrequencyDistiller(*models(), **taps, **pair.options)

    def two() -> FrequencyDistiller:
        first, student = models()
        teachers = {"first": first, "second": pair.make("teacher")}
        taps = [f"{name}:{pair.feature}" for name in teachers]
        return FrequencyDistiller(
            teachers, student, teacher_features=taps, student_features=pair.feature, **pair.options
        )

    def limit_of_two() -> Trainer:
        first, student = models()
        teacher = _side_by_side(first, pair.make("teacher"))
        return compiled(Limit(teacher, student, waits=True)), both, y

    def limit(waits: bool = False) -> Trainer:
        return compiled(Limit(*models(), waits)), both, y

    def feature_mse() -> keras.distillation.DistillationLoss:
        return keras.distillation.FeatureDistillation("mse", pair.feature, pair.feature)

    def cached(data: Any) -> Trainer:
        distiller = compiled(ours())
        data = cache_teacher(distiller, data, verbose=0)
        return (distiller, data, y) if isinstance(data, dict) else (distiller, data, None)

    numbered = {**both, "index": np.arange(len(y))}
    found: dict[str, Callable[[], Trainer]] = {
        LIMIT: limit,
        AGAIN: limit,
        WAITING: lambda: limit(waits=True),
        OURS: lambda: (compiled(ours()), both, y),
        SAME: lambda: (compiled(CrossModalDistiller(*models(), losses=[feature_mse()])), both, y),
        KERAS: lambda: (
            compiled(keras.distillation.Distiller(*models(), feature_mse())),
            inputs,
            y,
        ),
        ALONE: lambda: (compiled(pair.make("student")), inputs, y),
        CACHED: lambda: cached(both),
        TWO: lambda: (
            compiled(two()),
            {"teacher": {"first": inputs, "second": inputs}, "student": inputs},
            y,
        ),
        TWO_LIMIT: limit_of_two,
        ALONE_SET: lambda: (
            compiled(pair.make("student")),
            Samples(inputs, y, pair.batch_size),
            None,
        ),
        CACHED_SET: lambda: cached(Samples(both, y, pair.batch_size)),
        INDEXED: lambda: cached(Samples(numbered, y, pair.batch_size)),
    }
    if len(pair.shape) == 2:  # Keras's loss would count the padding, which ours refuses.
        del found[SAME]
    return found
