"""Checks of whole models: that no part of them is dropped, shared or skipped."""

from typing import Any

import keras

_TRAINING = ("train_step", "test_step", "predict_step", "compute_loss", "compute_metrics")


def check_own_training(student: keras.Model) -> None:
    """Raise if the student's class changes how it is trained, which a distiller would bypass."""
    own = {name: definer.__name__ for name in _TRAINING if (definer := _own(student, name))}
    if own:
        raise ValueError(
            "A distiller trains its student by a step of its own, in which what the student's "
            "class overrides would not run. Put a penalty into a layer, with `add_loss` in its "
            "`call`; pass an objective as `compile(loss=...)` of the distiller; or override the "
            "method in a subclass of the distiller. Then give the student without the override. "
            f"Received: student '{student.name}' with {_listed(own)}."
        )


def check_preprocessor(model: keras.Model, role: str) -> None:
    """Raise if the model's own `fit` and `predict` preprocess inputs, as those of KerasHub do."""
    preprocessor = getattr(model, "preprocessor", None)
    if preprocessor is None:
        return
    raise ValueError(
        f"`{role}` '{model.name}' has a preprocessor, which its own `fit` and `predict` apply to "
        "raw inputs, and a distiller does not. Apply it to the data: "
        "`x = model.preprocessor(x)`, or, if it changes the labels too, "
        "`x, y = model.preprocessor(x, y)`; a data set by `dataset.map`. Then set "
        "`model.preprocessor = None`; to serve raw inputs, set it back after training. "
        f"Received: {type(preprocessor).__name__} '{getattr(preprocessor, 'name', '')}'."
    )


def check_disjoint(teacher: keras.Model, student: keras.Model) -> None:
    """Raise if the models share a variable, and so a layer that learns or keeps state."""
    taken = {key for variable in teacher.variables for key in _identities(variable)}
    shared = [
        variable.path
        for variable in student.variables
        if not taken.isdisjoint(_identities(variable))
    ]
    # A model without variables shares none, not even with itself.
    if shared or teacher is student:
        raise ValueError(
            "Teacher and student must not share layers: training the student would change the "
            "teacher. Build one of them again, or use `keras.models.clone_model`, which makes new "
            "weights. "
            f"Received shared variables: {shared}."
        )


def _identities(variable: Any) -> tuple[int, ...]:
    """Return what identifies a variable: on PyTorch two may hold the same module parameter."""
    if keras.config.backend() != "torch":
        return (id(variable),)
    return id(variable), id(variable.value)


def _own(model: keras.Model, name: str) -> type | None:
    """Return the class outside Keras that defines a method of the model, even for this one only."""
    if name in vars(model):
        return type(model)
    definer = next((cls for cls in type(model).__mro__ if name in vars(cls)), None)
    if definer is None or definer.__module__.startswith("keras."):
        return None
    return definer


def _listed(own: dict[str, str]) -> str:
    return ", ".join(f"`{definer}.{name}`" for name, definer in own.items())
