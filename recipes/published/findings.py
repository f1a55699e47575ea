"""Findings: what is wrong with a published folder, counted and named."""

from collections.abc import Iterable, Iterator

SHOWN = 5


class Findings:
    r"""What is wrong with files and lists, and what the recipe does about it.

    Example:
    >>> findings = Findings()
    >>> findings.add("clips without sound, left out", "1001_DFA_ANG_XX")
    >>> print("\n".join(findings.lines()))
    1 clips without sound, left out: 1001_DFA_ANG_XX
    """

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, kind: str, name: str) -> None:
        """Note one case.

        Args:
            kind: What it is and what happens to it, in words after a number.
            name: Of the file or line.
        """
        self._found.setdefault(kind, []).append(name)

    def extend(self, kind: str, names: Iterable[str]) -> None:
        """Note several cases of a kind."""
        for name in names:
            self.add(kind, name)

    def __getitem__(self, kind: str) -> list[str]:
        return self._found.get(kind, [])

    def __len__(self) -> int:
        return sum(map(len, self._found.values()))

    def lines(self, shown: int = SHOWN) -> Iterator[str]:
        """Yield a line for each kind: how many, and the names of the first."""
        for kind, names in self._found.items():
            more = f", and {len(names) - shown} more" if len(names) > shown else ""
            yield f"{len(names)} {kind}: {', '.join(names[:shown])}{more}"
