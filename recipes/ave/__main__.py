"""AVE: what is seen teaches what is heard, and the other way (a table of the paper)."""

from recipes.ave.data import Ave
from recipes.published.command import run_published


def main(arguments: list[str] | None = None) -> None:
    """Check, prepare or run, as the command line says."""
    run_published(Ave, __doc__, arguments)


if __name__ == "__main__":
    main()
