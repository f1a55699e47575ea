"""OutputChecks: whether the outputs that losses compare are what they expect."""

import warnings
from typing import Any

import keras

from keras_fdkd.data.pairs import STUDENT, TEACHER
from keras_fdkd.distillers.chosen_output import ChosenOutput
from keras_fdkd.distillers.loss_terms import LossTerms
from keras_fdkd.distillers.task import check_task, is_on_probabilities, loss_of_output
from keras_fdkd.features import PREDICTIONS, FeatureTap
from keras_fdkd.losses.fitnet import FitNet
from keras_fdkd.outputs import look_like_probabilities

_ROWS = 8  # enough to tell probabilities from logits


class OutputChecks:
    """Checks of outputs that losses compare as logits: how they end, their values, their task.

    Args:
        teacher: The teacher's tap.
        student: The student's tap.
        terms: The losses.
        chosen: Of several outputs, the one that losses compare by default.

    Raises:
        ValueError: If such an output ends in softmax or sigmoid, as far as the graph tells.
    """

    def __init__(
        self, teacher: Any, student: FeatureTap, terms: LossTerms, chosen: ChosenOutput
    ) -> None:
        self._taps = {TEACHER: teacher, STUDENT: student}
        self._terms = terms
        self._chosen = chosen
        for side, tap in self._taps.items():
            for key in self.compared_logits(side):
                check_logits_end(terms.comparing(side)[key][0][0], side, tap, key)
        for name, loss in terms.losses.items():
            if isinstance(loss, FitNet) and loss.regressor is None:
                self._check_rectified(name, terms.read_by(loss, TEACHER)[0])

    def _check_rectified(self, name: str, key: str) -> None:
        """Warn if the default regressor, which ends in ReLU, cannot reach the teacher's values."""
        tap = self._taps[TEACHER]
        if tap.meaning(key) == "logits":  # It ends in a linear layer, whatever it means.
            warnings.warn(
                f"`{name}` maps the student's feature by a regressor that ends in ReLU, and the "
                "teacher's has negative values, which it cannot reach. Name a layer after the "
                "activation, or pass `regressor=` a layer without one, such as "
                f"`keras.layers.Dense({tap.spec[key].shape[-1]})`. Received: teacher feature that "
                f"ends in {tap.ends_in(key)}.",
                stacklevel=5,
            )

    def compared_logits(self, side: str) -> frozenset[str]:
        """Return the names of the outputs of `side` that are compared as logits."""
        return frozenset(self._terms.comparing(side))

    def check_compiled(self, loss: Any) -> None:
        """Raise if the compiled loss is for another kind of task than a distillation loss."""
        for key, pairs in self._terms.comparing(STUDENT).items():
            if key == PREDICTIONS:
                compiled = self._chosen.loss(loss)
            else:
                compiled = loss_of_output(loss, key.partition(":")[2])
            for name, distillation in pairs:
                check_task(name, distillation, compiled)
            if is_on_probabilities(compiled):
                raise ValueError(
                    f"`{pairs[0][0]}` compares logits: let both models end without softmax or "
                    "sigmoid (`keras_fdkd.logits_view` gives that view of a model), and compile "
                    f"with a loss of `from_logits=True`. Received: loss={compiled!r}."
                )

    def check_values(self, x: Any) -> None:
        """Raise if outputs whose end the graph does not tell have values like probabilities.

        Args:
            x: Training data, a pair of arrays.
        """
        for side, tap in self._taps.items():
            unknown = [key for key in self.compared_logits(side) if tap.meaning(key) is None]
            if not unknown or side not in x:
                continue
            outputs = tap.predict_on_batch(first_rows(x[side], _ROWS))
            outputs = self._chosen.outputs(outputs, side == TEACHER)
            for key in unknown:
                value = outputs.get(tap.data_names.get(key, key))
                if not keras.tree.is_nested(value) and look_like_probabilities(value):
                    name = self._terms.comparing(side)[key][0][0]
                    raise ValueError(_fix(name, side, "values in [0, 1] that sum to 1"))


def check_logits_end(name: str, side: str, tap: FeatureTap, key: str) -> None:
    """Raise if an output that `name` compares as logits ends in softmax or sigmoid."""
    if tap.meaning(key) == "probabilities":
        raise ValueError(_fix(name, side, tap.ends_in(key)))
    if path := tap.channels_first_by(key):
        raise ValueError(
            f"`{name}` compares along the last axis, so the {side} must give classes last: put "
            "`keras.layers.Permute((2, 3, 1))` at its end. "
            f"Received: {side} output of shape {tap.spec[key].shape}, channels first by '{path}'."
        )


def first_rows(inputs: Any, rows: int) -> Any:
    """Return the first rows of nested arrays."""
    return keras.tree.map_structure(lambda leaf: leaf[:rows], inputs)


def _fix(name: str, side: str, came: str) -> str:
    return (
        f"`{name}` compares logits, and the {side} gives probabilities. Pass "
        f"`{side}=keras_fdkd.logits_view({side})`, the same model without its end, and compile "
        f"with a loss of `from_logits=True`. Received: {side} output that ends in {came}."
    )
