"""How each model of a study is compiled and trained: the same way for all."""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from keras_fdkd.arguments import check_integer

_SET_BY_STUDY = (
    "x", "y", "validation_data", "validation_split", "validation_batch_size", "validation_steps",
    "validation_freq", "shuffle", "sample_weight", "steps_per_epoch", "initial_epoch", "verbose",
)  # fmt: skip


@dataclass(frozen=True)
class Protocol:
    """The arguments of `compile` and `fit`.

    Args:
        compile: Arguments of `keras.Model.compile`. An optimizer may be a function that returns a
            new one; if it has a parameter without a default, it gets the number of training steps.
        fit: `epochs`, `batch_size`, further arguments of `keras.Model.fit`; `callbacks` is a
            function that returns new ones.
        score: Name of the metric that chooses and is compared, as in the logs.
        mode: `"max"`, `"min"` or `"auto"`.
        missing: Whether some labels are NaN.
        ignored: Class of positions that metrics leave out, as the loss does. Defaults to `None`.
    """

    compile: Mapping[str, Any]
    fit: Mapping[str, Any]
    score: str
    mode: str
    missing: bool
    ignored: int | None = None

    @classmethod
    def of(
        cls,
        compile: Mapping[str, Any],
        fit: Mapping[str, Any],
        score: str | None,
        mode: str,
        missing: bool,
    ) -> "Protocol":
        """Check the arguments and return the protocol.

        Raises:
            ValueError: If an argument is not as described.
        """
        if not isinstance(compile, Mapping) or not {"optimizer", "loss"} <= set(compile):
            raise ValueError(
                "`compile` must be a dict of `optimizer`, `loss`, and further arguments of "
                f"`keras.Model.compile`. Received: compile={compile!r}."
            )
        for name in ("metrics", "weighted_metrics"):
            if not isinstance(compile.get(name) or [], (list, tuple)):
                raise ValueError(
                    f"`compile['{name}']` must be a list of metrics. Received: {compile[name]!r}."
                )
        if not isinstance(fit, Mapping) or "epochs" not in fit:
            raise ValueError(
                "`fit` must be a dict of `epochs`, `batch_size` and further arguments of "
                f"`keras.Model.fit`. Received: fit={fit!r}."
            )
        if taken := sorted(set(fit) & set(_SET_BY_STUDY)):
            raise ValueError(f"The study itself sets these arguments of `fit`: {taken}.")
        fit = {"batch_size": 32, **fit}
        check_integer("fit['epochs']", fit["epochs"])
        check_integer("fit['batch_size']", fit["batch_size"])
        if not callable(fit.get("callbacks", list)):
            raise ValueError(
                "`fit['callbacks']` must be a function that returns new callbacks, since each "
                f"training needs its own. Received: {fit['callbacks']!r}."
            )
        if mode not in ("auto", "max", "min"):
            raise ValueError(f"`mode` must be 'auto', 'max' or 'min'. Received: mode={mode!r}.")
        if score is not None and not isinstance(score, str):
            raise ValueError(
                "`score` must be the name of a metric as in the logs, such as 'accuracy'. "
                f"Received: score={score!r}."
            )
        return cls(dict(compile), fit, score or "", mode, missing)

    @property
    def epochs(self) -> int:
        """Number of epochs of every model."""
        return self.fit["epochs"]

    @property
    def batch_size(self) -> int:
        """Number of samples in a batch."""
        return self.fit["batch_size"]

    def compile_model(self, model: keras.Model, steps: int) -> None:
        """Compile a model or a distiller with its own optimizer and metrics."""
        given = dict(self.compile)
        given["optimizer"] = _optimizer(given["optimizer"], steps)
        for name in ("metrics", "weighted_metrics"):
            given[name] = keras.tree.map_structure(_metric, given.get(name) or [])
        # Metrics without weights would count labels that are missing, or that the loss ignores.
        if self.missing or self.ignored is not None:
            given["weighted_metrics"] = [*given.pop("metrics"), *given["weighted_metrics"]]
        model.compile(**given)

    def fit_arguments(self) -> dict[str, Any]:
        """Return the further arguments of `fit`, with new callbacks."""
        rest = {name: value for name, value in self.fit.items() if name != "batch_size"}
        return {**rest, "callbacks": list(rest.get("callbacks", list)())}

    def direction(self, model: keras.Model) -> str:
        """Return `"max"` or `"min"`, as Keras infers it for a compiled and evaluated model."""
        monitor = keras.callbacks.EarlyStopping(f"val_{self.score}", mode=self.mode)
        monitor.set_model(model)
        monitor.on_train_begin()
        try:
            # Keras infers the direction at this point, when the metrics are built.
            monitor.on_epoch_end(0, {f"val_{self.score}": 0.0})
        except ValueError as error:
            raise ValueError(
                f"Keras cannot tell whether '{self.score}' is better high or low: pass "
                "`mode='max'` or `mode='min'`."
            ) from error
        return "max" if monitor.monitor_op is keras.ops.greater else "min"


def _optimizer(given: Any, steps: int) -> keras.optimizers.Optimizer:
    if isinstance(given, str):
        return keras.optimizers.get(given)
    if isinstance(given, keras.optimizers.Optimizer):
        return _from_config(given, given.get_config(), "optimizer")
    if callable(given):
        return given(steps) if _needs_argument(given) else given()
    raise ValueError(
        "`compile['optimizer']` must be the name of an optimizer, an optimizer, or a function that "
        f"returns a new one. Received: {given!r}."
    )


def _needs_argument(function: Callable[..., Any]) -> bool:
    """Whether a function has a parameter that must be given."""
    parameters = inspect.signature(function).parameters.values()
    plain = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    return any(one.default is one.empty and one.kind in plain for one in parameters)


def _metric(given: Any) -> Any:
    """Return a metric with its own state.

    A metric without a name of its own gets that of its class, because Keras would number them
    within a process.
    """
    if not isinstance(given, keras.Metric):
        return given
    config = given.get_config()
    plain = re.sub(r"_\d+$", "", given.name)
    if plain.replace("_", "") == type(given).__name__.lower():
        config["name"] = plain
    return _from_config(given, config, "metrics")


def _from_config(given: Any, config: dict[str, Any], name: str) -> Any:
    try:
        return type(given).from_config(config)
    except Exception as error:  # Classes of users may raise anything.
        raise ValueError(
            f"`compile['{name}']` must be made anew for each training: register what "
            f"'{given.name}' is made of with `keras.saving.register_keras_serializable`, or pass "
            f"a function. {type(error).__name__}: {error}"
        ) from error
