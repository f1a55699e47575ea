"""VGGSound: what is seen teaches what is heard, and the other way (a table of the paper)."""

from recipes.published.command import run_published
from recipes.vggsound.data import VggSound


def main(arguments: list[str] | None = None) -> None:
    """Check, prepare or run, as the command line says."""
    run_published(VggSound, __doc__, arguments)


if __name__ == "__main__":
    main()
