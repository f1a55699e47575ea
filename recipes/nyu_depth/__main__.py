"""NYU-Depth V2: colours teach distances to tell what stands in a room (a table of the paper)."""

from recipes.nyu_depth.data import NyuDepth
from recipes.published.command import run_published


def main(arguments: list[str] | None = None) -> None:
    """Check, prepare or run, as the command line says."""
    run_published(NyuDepth, __doc__, arguments)


if __name__ == "__main__":
    main()
