"""Ensemble: several teachers of one modality as a single teacher."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_fdkd.arguments import check_choice
from keras_fdkd.features import FEATURES, LOGITS, PREDICTIONS, FeatureTap, check_model
from keras_fdkd.own_call import symbolic_inputs

CONCAT, MEAN = "concat", "mean"


@keras.saving.register_keras_serializable(package="keras_fdkd")
class Ensemble(keras.Model):
    """Several models that see the same inputs, as one teacher: the mean of their logits.

    For several teachers of one modality, such as a model trained from several seeds: the mean is
    often a better teacher than any of them. Pass it as `teacher` to a distiller. (For teachers of
    different modalities pass a dict to `CrossModalDistiller` instead.)

    Args:
        models: List of two or more built models that take the same inputs and give logits of the
            same classes.
        features: How the features of the models are combined: `"concat"` joins them along the last
            axis, `"mean"` averages them, `None` returns no feature. Defaults to `"concat"`.
        layer_names: Where to read the feature of each model, see `keras_fdkd.features.FeatureTap`:
            one path for all, or a list with one for each. Defaults to `None`: the default feature.
        **kwargs: See `keras.Model`.

    Call args:
        inputs: Inputs of the models.
        training: Boolean.

    Returns:
        Dict of `"features"`, shape `(batch, ..., dim)`, and `"logits"`, shape
        `(batch, ..., classes)`; the logits alone if `features` is `None`. They are at least
        float32.

    Raises:
        ValueError: If an argument is not as described, a model ends in softmax or sigmoid, or
            inputs, classes or features do not fit together.

    Example:
    >>> import numpy as np
    >>> def model(units):
    ...     return keras.Sequential([keras.Input((6,)), keras.layers.Dense(units, "relu"),
    ...                              keras.layers.Dense(3)])
    >>> teacher = Ensemble([model(8), model(16)])
    >>> outputs = teacher(np.ones((2, 6), "float32"))
    >>> tuple(outputs["features"].shape), tuple(outputs["logits"].shape)
    ((2, 24), (2, 3))
    """

    def __init__(
        self,
        models: Sequence[keras.Model],
        features: str | None = CONCAT,
        layer_names: "str | Sequence[str | None] | None" = None,
        **kwargs: Any,
    ) -> None:
        check_choice("features", features, (CONCAT, MEAN), optional=True)
        if not isinstance(models, (list, tuple)) or len(models) < 2:
            raise ValueError(
                f"`models` must be a list of two or more models. Received: models={models!r}."
            )
        for number, model in enumerate(models):
            check_model(model, f"models[{number}]")
        if len({id(model) for model in models}) < len(models):
            names = [model.name for model in models]
            raise ValueError(f"`models` must be different ones. Received one twice: {names}.")
        paths = _paths(layer_names, len(models))
        if features is None and any(path is not None for path in paths):
            raise ValueError(
                "`layer_names` says where features are, so `features` must be 'concat' or 'mean'. "
                f"Received: features=None, layer_names={layer_names!r}."
            )
        super().__init__(**kwargs)
        self.autocast = False  # Each model casts its own inputs.
        self.models = list(models)
        self.features = features
        self._taps = [
            _tapped(model, {} if features is None else {FEATURES: path}, f"models[{number}]")
            for number, (model, path) in enumerate(zip(models, paths, strict=True))
        ]
        # As paths: `get_config` cannot hold a `KerasTensor` that was given.
        self.layer_names = [tap.paths.get(FEATURES) for tap in self._taps]
        _check_shapes(self._taps, features)
        names = [PREDICTIONS] if features is None else [PREDICTIONS, FEATURES]
        dtypes = [tap.spec[name].dtype for tap in self._taps for name in names]
        # A mean in half precision would be rounded once more.
        dtype = keras.backend.result_type(*dtypes, "float32")
        # As layers, because they combine the masks too.
        self._mean = keras.layers.Average(dtype=dtype)
        self._join = None
        if features is not None:
            joins = {CONCAT: keras.layers.Concatenate, MEAN: keras.layers.Average}
            self._join = joins[features](dtype=dtype)
        try:
            self(symbolic_inputs(self.models[0]))
        except Exception as error:  # Layers may raise anything.
            raise ValueError(
                "All models of an ensemble must take the same inputs. Received: "
                f"{[_taken(model) for model in self.models]}, and {type(error).__name__}: {error}"
            ) from error

    def call(self, inputs: Any, training: bool = False) -> Any:
        outputs = [tap(inputs, training=training) for tap in self._taps]
        logits = self._mean([output[PREDICTIONS] for output in outputs])
        if self._join is None:
            return logits
        return {FEATURES: self._join([output[FEATURES] for output in outputs]), LOGITS: logits}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "models": [keras.saving.serialize_keras_object(model) for model in self.models],
            "features": self.features,
            "layer_names": None if self.features is None else self.layer_names,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Ensemble":
        models = [
            keras.saving.deserialize_keras_object(model, custom_objects=custom_objects)
            for model in config["models"]
        ]
        return cls(**{**config, "models": models})


def _paths(layer_names: Any, number: int) -> list[Any]:
    if isinstance(layer_names, (list, tuple)):
        if len(layer_names) != number:
            raise ValueError(
                "`layer_names` must be a path for all models or a list of one for each. "
                f"Received: {len(layer_names)} for {number} models."
            )
        return list(layer_names)
    return [layer_names] * number


def _tapped(model: keras.Model, features: dict[str, Any], role: str) -> FeatureTap:
    try:
        tap = FeatureTap(model, features, role)
    except ValueError as error:
        if not features:
            raise
        raise ValueError(
            f"{error} In an ensemble, `layer_names=` says where features are, and `features=None` "
            "leaves them out."
        ) from error
    if keras.tree.is_nested(tap.spec[PREDICTIONS]):
        raise ValueError(
            f"`{role}` '{model.name}' must have one output, its logits. "
            f"Received: {tap.spec[PREDICTIONS]}."
        )
    if tap.meaning(PREDICTIONS) == "probabilities":
        raise ValueError(
            f"An ensemble is the mean of logits, and `{role}` gives probabilities. Pass "
            f"`keras_fdkd.logits_view(model)`, the same model without its end. "
            f"Received: '{model.name}', which ends in {tap.ends_in(PREDICTIONS)}."
        )
    return tap


def _check_shapes(taps: list[FeatureTap], features: str | None) -> None:
    logits = [tuple(tap.spec[PREDICTIONS].shape) for tap in taps]
    if len(set(logits)) > 1:
        raise ValueError(
            "All models of an ensemble must give logits of the same classes, in one shape. "
            f"Received: {logits}."
        )
    if features is None:
        return
    found = [tuple(tap.spec[FEATURES].shape) for tap in taps]
    if features == MEAN and len(set(found)) > 1:
        raise ValueError(
            "A mean of features needs features of one shape: name others with `layer_names=`, or "
            f"use `features='concat'`. Received: {found}."
        )
    if len({shape[:-1] for shape in found}) > 1:
        raise ValueError(
            "Features side by side must have one shape but for the last axis: name others with "
            f"`layer_names=`. Received: {found}."
        )


def _taken(model: keras.Model) -> Any:
    inputs = keras.tree.map_structure(lambda tensor: tuple(tensor.shape), symbolic_inputs(model))
    return f"'{model.name}' takes {inputs}"
