"""Files that are whole or not there at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_whole(path: "str | Path") -> Iterator[Path]:
    """Give a path to write to, which takes the place of `path` once it is complete on disk.

    A process that is killed on the way leaves `path` as it was, and beside it a file `part-...`
    with the number of the process, which may be deleted. Of several that write at once, the last
    one wins, with a whole file.

    Args:
        path: A local file, whose folder exists.

    Example:
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "numbers.txt"
    >>> with written_whole(target) as part:
    ...     _ = part.write_text("1 2 3")
    >>> target.read_text()
    '1 2 3'
    """
    path = Path(path)
    part = path.with_name(f"part-{os.getpid()}-{path.name}")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    part.replace(path)


def is_local(path: object) -> bool:
    """Whether `path` names a file of this machine, rather than an open file or a remote one."""
    return isinstance(path, (str, os.PathLike)) and "://" not in str(path)
