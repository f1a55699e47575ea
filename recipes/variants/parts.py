"""What the variants of the bands are made of: other bases, schedules, learned splits, teachers."""

from typing import Any

import keras
import numpy as np
from keras import ops
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from keras_fdkd import FrequencyDistiller
from keras_fdkd.study.labels import UNLABELLED
from recipes.variants.place import Place

PENALTIES = np.logspace(-3, 3, 7)
SCHEDULES = {
    "rise": lambda progress: ops.minimum(1.0, 4.0 * progress),
    "fade": lambda progress: 1.0 - progress,
    "fade early": lambda progress: ops.maximum(0.0, 1.0 - 2.0 * progress),
}


class Scheduled(FrequencyDistiller):
    """A distiller whose terms rise or fade over the steps of training."""

    def __init__(self, *args: Any, schedule: str, steps: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.schedule, self.steps = schedule, steps
        # A weight: a Python number would be fixed when the step is compiled.
        self.step = self.add_weight(shape=(), initializer="zeros", trainable=False, name="step")

    def compare(self, teacher: Any, student: Any, training: bool) -> dict[str, Any]:
        progress = ops.minimum(1.0, self.step / self.steps)
        if training:
            self.step.assign_add(1.0)
        factor = SCHEDULES[self.schedule](progress)
        return {**super().compare(teacher, student, training), "factor": factor}

    def terms(self, compared: dict[str, Any], y: Any, sample_weight: Any) -> tuple[dict, dict]:
        factor = compared.pop("factor")
        terms, monitors = super().terms(compared, y, sample_weight)
        return {name: (factor * weight, value) for name, (weight, value) in terms.items()}, monitors


class Turned(FrequencyDistiller):
    """A distiller that learns, with the student, a nearly orthogonal map before the split."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        size = self._teacher_tap.spec["features"].shape[-1]
        self.turn = keras.layers.Dense(
            size,
            use_bias=False,
            # Training begins with the plain bands.
            kernel_initializer="identity",
            kernel_regularizer=keras.regularizers.OrthogonalRegularizer(0.1),
        )
        self.turn.build((None, size))

    def compare(self, teacher: Any, student: Any, training: bool) -> dict[str, Any]:
        teacher, student = (
            {**side, "features": self.turn(side["features"])} for side in (teacher, student)
        )
        return super().compare(teacher, student, training)


class SoftCutoff(FrequencyDistiller):
    """A distiller whose cutoff is soft and trained with the student."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.soft_split = _SoftSplit()
        self.soft_split.build(self._teacher_tap.spec["features"].shape)
        self.frequency._split = self.soft_split


class _SoftSplit(keras.layers.Layer):
    """Split along the last axis by a sigmoid over the spectrum, whose middle is a weight."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.cutoff = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(0.5), name="cutoff"
        )
        self.built = True

    def call(self, inputs: Any) -> tuple[Any, Any]:
        size = inputs.shape[-1]
        frequency = ops.linspace(0.0, 1.0, size // 2 + 1)
        gate = ops.sigmoid(20.0 * (self.cutoff - frequency))
        centred = inputs - ops.mean(inputs, axis=-1, keepdims=True)
        real, imaginary = ops.rfft(centred)
        low = ops.irfft((real * gate, imaginary * gate), fft_length=size)
        return low, centred - low


def basis(kind: str, features: np.ndarray, seed: int, seen: np.ndarray | None = None) -> np.ndarray:
    """Return a matrix whose columns are the new axes of features of shape `(samples, dim)`.

    Args:
        kind: `"shuffled"`: the axes in random order. `"seriation"`: in the order of the Fiedler
            vector of their correlations, so that neighbours are correlated (Atkins et al., 1998).
            `"principal"`: the principal components. `"whitened"`: 16 of them, of unit variance.
            `"shared"`: axes such that low frequencies are what `seen` predicts best (reduced-rank
            regression), high ones what it predicts least. `"shared, whitened"`: the 16 axes that
            `seen` predicts best, of unit variance.
        features: Of the teacher.
        seed: Of the random order.
        seen: Features of a student that was trained alone, for the same samples.
    """
    size = features.shape[1]
    if kind == "shuffled":
        return np.eye(size)[:, np.random.default_rng(seed).permutation(size)]
    centred = features - features.mean(0)
    if kind == "seriation":
        noise = np.random.default_rng(0).normal(size=features.shape)  # for channels that are dead
        similarity = (np.corrcoef((centred / (centred.std(0) + 1e-6) + 1e-9 * noise).T) + 1) / 2
        laplacian = np.diag(similarity.sum(1)) - similarity
        return np.eye(size)[:, np.argsort(np.linalg.eigh(laplacian)[1][:, 1])]
    if kind.startswith("shared"):
        found = RidgeCV(PENALTIES).fit(seen, centred).predict(seen)
        axes = np.linalg.svd(found - found.mean(0))[2]
        if kind == "shared":
            return axes.T @ _waves(size)
        return axes[:16].T / ((centred @ axes[:16].T).std(0) + 1e-6)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    if kind == "principal":
        return axes.T
    return axes[:16].T / (values[:16] / len(centred) ** 0.5 + 1e-6)


def _waves(size: int) -> np.ndarray:
    """Return an orthogonal matrix whose rows are waves of rising frequency, the constant last."""
    spectrum = np.fft.rfft(np.eye(size), norm="ortho")
    waves = np.stack([spectrum.real, spectrum.imag], axis=-1).reshape(size, -1).T
    # The constant, and the fastest wave of an even size, have no sine.
    waves = waves[np.linalg.norm(waves, axis=1) > 1e-6]
    waves /= np.linalg.norm(waves, axis=1, keepdims=True)
    # The bands leave the constant out: it gets the axis that is predicted least.
    return np.roll(waves, -1, axis=0)


def followed(
    kind: str, teacher: tuple[np.ndarray, np.ndarray], student: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Return a weight from 0 to 1 per training pair: how well the student's features tell it.

    A linear map from the student's features predicts those of the teacher, of unit variance. The
    weight is the share of their squares that it explains, as nobody can learn to align the rest.

    Args:
        kind: `"samples"`: of each pair, from a map that is fitted on other training pairs.
            `"held out"`: one number for all pairs, of a map fitted on the training pairs and judged
            on the validation pairs.
        teacher: Features of the training and of the validation pairs, shape `(pairs, dim)`.
        student: The same of a student that was trained alone.
    """
    scale = StandardScaler().fit(teacher[0])
    goals = [scale.transform(features) for features in teacher]
    ridge = make_pipeline(StandardScaler(), RidgeCV(PENALTIES))
    if kind == "samples":
        goal = goals[0]
        # Folds are blocks in the order of the data, which keeps most neighbours in time together.
        missed = np.square(goal - cross_val_predict(ridge, student[0], goal, cv=5)).sum(1)
        explained = 1 - missed / np.square(goal).sum(1)
    else:
        goal = goals[1]
        missed = np.square(goal - ridge.fit(student[0], goals[0]).predict(student[1])).sum()
        explained = np.full(len(teacher[0]), 1 - missed / np.square(goal).sum())
    return np.clip(explained, 0.0, 1.0).astype("float32")


def in_basis(model: keras.Model, matrix: np.ndarray) -> keras.Model:
    """Return the model with its feature in another basis, its logits as they are."""
    change = keras.layers.Dense(matrix.shape[1], use_bias=False, trainable=False, name="basis")
    feature = change(model.get_layer("feature").output)
    change.set_weights([matrix.astype("float32")])
    return keras.Model(model.input, {"features": feature, "logits": model.output})


def cross_fitted(place: Place, modality: str, folds: int = 3) -> np.ndarray:
    """Return logits of teachers that did not see the labels of what they judge.

    Without shuffling, a fold is a block of each class in the order of the data, which keeps most
    neighbours in time together. Samples without a label get the mean of all teachers.
    """
    inputs, labels = place.inputs[modality], place.labels
    labelled = np.flatnonzero(labels != UNLABELLED)
    made = []
    own = np.zeros(len(labels), int)
    for number, (_, hidden) in enumerate(StratifiedKFold(folds).split(labelled, labels[labelled])):
        own[labelled[hidden]] = number
        kept = labels.copy()
        kept[labelled[hidden]] = UNLABELLED
        seed = place.seed + number
        model = place.new_model(modality, seed)
        place.train(model, inputs, modality, kept, seed)
        made.append(model.predict(inputs, batch_size=512, verbose=0))
    logits = np.mean(made, axis=0)
    logits[labelled] = np.stack(made)[own[labelled], labelled]
    return logits
