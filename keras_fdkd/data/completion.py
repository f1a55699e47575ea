"""Completion: the record that the rows of a store are complete, and which rows they are."""

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from keras_fdkd.data.row_files import CHECKS, INPUTS, KEYS, RowFiles, broken
from keras_fdkd.files import written_whole

_FILE = "complete.json"


@dataclass(frozen=True)
class Completion:
    """What a complete store records about itself.

    Args:
        rows: How many rows it has; more may follow.
        digest: Digest of the keys, the checksums and the form of the rows.
        passes: For each data set that was read to the end, the number of batches, and size and
            digest of the first one.
    """

    rows: int
    digest: str
    passes: list[list[int]]

    def __post_init__(self) -> None:
        kinds = {"rows": int, "digest": str, "passes": list}
        if not all(isinstance(getattr(self, name), cls) for name, cls in kinds.items()):
            raise TypeError(f"Received: {self}")
        if self.rows < 0:
            raise ValueError(f"Received: rows={self.rows}")


def is_complete(folder: Path) -> bool:
    """Whether a folder records that its rows are complete."""
    return (folder / _FILE).exists()


def read_completion(files: RowFiles) -> Completion:
    """Return the record of a folder, after checking that its files can have these rows.

    Raises:
        ValueError: If a file is damaged, edited or missing.
    """
    path = files.folder / _FILE
    try:
        said = Completion(**json.loads(path.read_text()))
    except (ValueError, TypeError):
        raise broken(path, "it is not what was written") from None
    # Before the digest, because a file that is too short cannot be mapped.
    files.check_rows(said.rows)
    if said.digest != _digest(files, said.rows):
        named = [str(files.path(name)) for name in (KEYS, INPUTS, CHECKS)]
        raise broken(" or ".join([*named, "spec.json"]), "it is not what was written")
    return said


def write_completion(files: RowFiles, passes: list[list[int]]) -> None:
    """Record that the present rows are complete."""
    rows = files.whole_rows()
    _write(files, Completion(rows, _digest(files, rows), passes))


def note_passes(files: RowFiles, passes: list[list[int]]) -> None:
    """Change which data sets were read to the end."""
    said = read_completion(files)
    # On read-only storage nothing missing could be added either.
    with contextlib.suppress(OSError):
        _write(files, Completion(said.rows, said.digest, passes))


def _write(files: RowFiles, said: Completion) -> None:
    with written_whole(files.folder / _FILE) as part:
        part.write_text(json.dumps(asdict(said)))


def _digest(files: RowFiles, rows: int) -> str:
    digest = hashlib.blake2b(json.dumps(files.spec).encode(), digest_size=8)
    # Not over the outputs, which may be huge: each row's checksum stands for them.
    for values in files.read(rows, (KEYS, INPUTS, CHECKS)).values():
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
