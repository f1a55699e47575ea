"""Find the root of a published folder, and read its lists."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path


def find_root(folder: Path, needed: Sequence[str]) -> Path:
    """Return the folder that holds the files and folders of a data set.

    Archives unpack one level deeper than expected, and people name a folder inside: the folder
    above and those right below are looked at too.

    Args:
        folder: As the user named it.
        needed: Names that must be in the root, each perhaps several that do, as `"a|b"`.

    Raises:
        FileNotFoundError: If none of these folders holds them.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"`--data` must be a folder. Received: {folder}.")
    folder = folder.resolve()
    below = sorted(path for path in folder.iterdir() if path.is_dir())
    for root in (folder, *below, folder.parent):
        if not _missing(root, needed):
            if root != folder:
                print(f"The data are in {root}.")
            return root
    there = sorted(path.name for path in folder.iterdir())[:10]
    raise FileNotFoundError(
        f"{folder} must hold {', '.join(needed)}, and so must be the root of the data set. "
        f"Missing: {', '.join(_missing(folder, needed))}. There: {', '.join(there) or 'nothing'}."
    )


def _missing(root: Path, needed: Sequence[str]) -> list[str]:
    return [
        names for names in needed if not any((root / name).exists() for name in names.split("|"))
    ]


def read_table(
    path: Path, delimiter: str = ",", quoted: bool = True
) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of each line that is not empty, from 1, and its cells without blanks around.

    A byte order mark at the beginning is left out.

    Args:
        path: A text file in UTF-8.
        delimiter: Between cells.
        quoted: Whether a cell may stand in quotes, with delimiters inside.
    """
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    # A wrong byte spoils a letter, not the whole list.
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, quoting=quoting)
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, [cell.strip() for cell in cells]


def first_existing(*paths: Path) -> Path | None:
    """Return the first of the paths that exists, or `None`."""
    return next((path for path in paths if path.exists()), None)
