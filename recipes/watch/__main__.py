"""Accelerometer and gyroscope of a smartwatch: one teaches the other to recognize exercises."""

from recipes.shared.demo import run_demo
from recipes.shared.report import Run
from recipes.watch.experiment import experiment


def main(arguments: list[str] | None = None) -> list[Run]:
    """Run the experiment and write its report."""
    return run_demo(experiment, "watch", __doc__, arguments)


if __name__ == "__main__":
    main()
