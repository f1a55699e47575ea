"""Names and pictures of emoji, through pretrained encoders: one teaches the other the group."""

from recipes.emoji.experiment import experiment
from recipes.shared.demo import run_demo
from recipes.shared.report import Run


def main(arguments: list[str] | None = None) -> list[Run]:
    """Run the experiment and write its report."""
    return run_demo(experiment, "emoji", __doc__, arguments)


if __name__ == "__main__":
    main()
