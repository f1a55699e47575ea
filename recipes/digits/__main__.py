"""Spoken and written digits, paired by label alone: one teaches the other."""

from keras_fdkd.study import Results
from recipes.digits.experiment import experiment
from recipes.shared.experiment_command import run_experiment
from recipes.shared.study_command import Direction


def main(arguments: list[str] | None = None) -> dict[Direction, Results]:
    """Run the studies of both directions and write their report."""
    return run_experiment(experiment, "digits", __doc__, arguments)


if __name__ == "__main__":
    main()
