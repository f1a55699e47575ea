"""Files that are either complete or absent."""

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_whole(path: "str | Path") -> Iterator[Path]:
    """Give a path to write to; the file replaces `path` once it is complete on disk.

    If the process is killed on the way, `path` stays as it was, and next to it remains a file
    `part-...` with the number of the process, which may be deleted. If several processes or threads
    write at once, the last one wins, with a complete file. As with plain writing, a symbolic link
    stays and the file it points to is replaced, and a file keeps its mode.

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
    if before is not None and not os.access(target, os.W_OK):  # `replace` needs only the folder.
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    # Next to the target, because a file moves in one step only within one file system. Its name
    # ends as the caller's does, which Keras looks at, and is unique to this thread and process.
    part = target.with_name(f"part-{os.getpid()}-{uuid.uuid4().hex[:12]}-{path.name}")
    try:
        yield part
        # Else a power cut after the rename could leave a file without content.
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        if before is not None:
            _take_over(part, before)
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _take_over(part: Path, before: os.stat_result) -> None:
    """Give a file the mode of another one and, where that is allowed, its owner."""
    # First the owner, because changing it may clear bits of the mode.
    if hasattr(os, "chown"):
        with contextlib.suppress(PermissionError):
            os.chown(part, before.st_uid, before.st_gid)
    part.chmod(stat.S_IMODE(before.st_mode))


def is_local(path: object) -> bool:
    """Whether `path` names a file on this machine, rather than an open file or a remote one."""
    return isinstance(path, (str, os.PathLike)) and "://" not in str(path)
