"""Accelerometer and gyroscope of a smartwatch: one teaches the other to recognize exercises."""

from keras_fdkd.study import Results
from recipes.shared.experiment_command import run_experiment
from recipes.shared.study_command import Direction
from recipes.watch.experiment import experiment


def main(arguments: list[str] | None = None) -> dict[Direction, Results]:
    """Run the studies of both directions and write their report."""
    return run_experiment(experiment, "watch", __doc__, arguments)


if __name__ == "__main__":
    main()
