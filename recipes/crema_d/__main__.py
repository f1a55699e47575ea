"""CREMA-D: a face teaches a voice to tell emotions, and a voice a face (a table of the paper)."""

from recipes.crema_d.data import CremaD
from recipes.published.command import run_published


def main(arguments: list[str] | None = None) -> None:
    """Check, prepare or run, as the command line says."""
    run_published(CremaD, __doc__, arguments)


if __name__ == "__main__":
    main()
