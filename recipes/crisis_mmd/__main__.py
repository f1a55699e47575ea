"""CrisisMMD: the text of a tweet teaches its picture, and the other way (a table of the paper)."""

from recipes.crisis_mmd.data import CrisisMmd
from recipes.published.command import run_published


def main(arguments: list[str] | None = None) -> None:
    """Check, prepare or run, as the command line says."""
    run_published(CrisisMmd, __doc__, arguments)


if __name__ == "__main__":
    main()
