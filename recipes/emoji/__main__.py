"""Names and pictures of emoji, through pretrained encoders: one teaches the other the group."""

from keras_fdkd.study import Results
from recipes.emoji.experiment import experiment
from recipes.shared.experiment_command import run_experiment
from recipes.shared.study_command import Direction


def main(arguments: list[str] | None = None) -> dict[Direction, Results]:
    """Run the studies of both directions and write their report."""
    return run_experiment(experiment, "emoji", __doc__, arguments)


if __name__ == "__main__":
    main()
