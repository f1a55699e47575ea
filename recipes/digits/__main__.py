"""Spoken and written digits, paired by label alone: one teaches the other."""

from recipes.digits.experiment import experiment
from recipes.shared.demo import run_demo
from recipes.shared.report import Run


def main(arguments: list[str] | None = None) -> list[Run]:
    """Run the experiment and write its report."""
    return run_demo(experiment, "digits", __doc__, arguments)


if __name__ == "__main__":
    main()
