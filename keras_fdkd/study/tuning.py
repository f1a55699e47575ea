"""Find a method's setting on the validation fold, with Optuna; a killed search resumes."""

import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

from keras_fdkd.study.method import Method, Setting
from keras_fdkd.study.trainer import Outcome

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Tuning:
    """The trials of one method on one split: its candidates, then Optuna's TPE in its space.

    Args:
        file: Optuna's journal, which is created if it does not exist.
        method: The method to tune.
        mode: `"max"` or `"min"`, for the score.
        trials: How many settings to try; fewer if the method has no more.
        seed: Seed of the sampler.
    """

    def __init__(self, file: Path, method: Method, mode: str, trials: int, seed: int) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.method, self.mode, self.seed = method, mode, seed
        self.count = trials if method.space else min(trials, len(method.candidates))
        self._study = optuna.create_study(
            # Optuna's default lock is a symbolic link, for which Windows asks for privileges:
            # https://github.com/optuna/optuna/issues/4298.
            storage=JournalStorage(JournalFileBackend(str(file), JournalFileOpenLock(str(file)))),
            study_name="tuning",
            direction="maximize" if mode == "max" else "minimize",
            load_if_exists=True,
        )

    @property
    def done(self) -> list[dict[str, Any]]:
        """The settings that were tried, with their scores on the validation fold."""
        return [{**trial.user_attrs, "score": trial.value} for trial in self._ended()]

    def _ended(self) -> list[optuna.trial.FrozenTrial]:
        states = (TrialState.COMPLETE, TrialState.FAIL)
        return self._study.get_trials(deepcopy=False, states=states)

    def next(self) -> Setting | None:
        """Return the next setting to try, `None` if all have been tried."""
        number = len(self.done)
        if number >= self.count:
            return None
        if number < len(self.method.candidates):
            return dict(self.method.candidates[number])
        # A new search over what has ended: it does not depend on where it was stopped before.
        search = optuna.create_study(
            # By default 10 trials would be random, and one seed would draw the same each time.
            sampler=optuna.samplers.TPESampler(
                n_startup_trials=len(self.method.candidates), seed=self.seed + number
            ),
            direction=self._study.direction,
        )
        search.add_trials([trial for trial in self._ended() if trial.params])
        return {**self.method.default, **search.ask(dict(self.method.space)).params}

    def tell(self, setting: Setting, outcome: Outcome | None) -> None:
        """Note how a setting did; `None` for one without a finite score."""
        notes: dict[str, Any] = {"setting": setting}
        if outcome is not None:
            notes |= {"epoch": outcome.epoch, "curve": outcome.curve,
                      "seconds_per_step": outcome.seconds_per_step}  # fmt: skip
        score = None if outcome is None else outcome.score
        state = TrialState.FAIL if outcome is None else TrialState.COMPLETE
        known = {}
        if set(self.method.space) <= set(setting):
            known = {name: setting[name] for name in self.method.space}
        with warnings.catch_warnings():
            # A candidate may lie outside the space.
            warnings.simplefilter("ignore", UserWarning)
            self._study.add_trial(
                optuna.trial.create_trial(
                    state=state,
                    value=score,
                    user_attrs=notes,
                    params=known,
                    distributions={name: self.method.space[name] for name in known},
                )
            )

    def is_best(self, score: float) -> bool:
        """Whether a score is better than all so far."""
        if self.best is None:
            return True
        return score > self.best["score"] if self.mode == "max" else score < self.best["score"]

    @property
    def best(self) -> dict[str, Any] | None:
        """The trial with the best score, the first of equal ones; `None` if there is none."""
        ended = [trial for trial in self._ended() if trial.state == TrialState.COMPLETE]
        if not ended:
            return None
        sign = -1 if self.mode == "max" else 1
        order = [(sign * float(trial.value or 0.0), trial.number) for trial in ended]
        best = ended[order.index(min(order))]
        return {**best.user_attrs, "score": best.value, "number": best.number}
