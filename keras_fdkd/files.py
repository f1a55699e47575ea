"""Files that are whole or not there at all."""

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_whole(path: "str | Path") -> Iterator[Path]:
    """Give a path to write to, which takes the place of `path` once it is complete on disk.

    A process that is killed on the way leaves `path` as it was, and beside it a file `part-...`
    with the number of the process, which may be deleted. Of several processes or threads that write
    at once, the last one wins, with a whole file. As with plain writing, a symbolic link stays and
    what it points to is replaced, and a file keeps its mode.

    Args:
        path: A local file, whose folder exists.

    Raises:
        PermissionError: If `path` is a file that may not be written.

    Example:
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "numbers.txt"
    >>> with written_whole(target) as part:
    ...     _ = part.write_text("1 2 3")
    >>> target.read_text()
    '1 2 3'
    """
    path = Path(path)
    target = Path(os.path.realpath(path))
    before = target.stat() if target.exists() else None
    if before is not None and not os.access(target, os.W_OK):  # Its folder alone may allow for it.
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    # Beside the target, since a file moves in one step within one file system alone. Its name ends
    # as the caller's does, which Keras looks at, and no other thread, process or machine draws it.
    part = target.with_name(f"part-{os.getpid()}-{uuid.uuid4().hex[:12]}-{path.name}")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        if before is not None:
            _take_over(part, before)
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _take_over(part: Path, before: os.stat_result) -> None:
    """Give a file the owner, where that is allowed, and the mode of another."""
    if hasattr(os, "chown"):
        with contextlib.suppress(PermissionError):
            os.chown(part, before.st_uid, before.st_gid)
    part.chmod(stat.S_IMODE(before.st_mode))


def is_local(path: object) -> bool:
    """Whether `path` names a file of this machine, rather than an open file or a remote one."""
    return isinstance(path, (str, os.PathLike)) and "://" not in str(path)
