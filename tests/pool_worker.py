"""Tasks for the tests of the pool: processes of its own import this, without Keras."""

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from recipes.variants.pool import run_all


@dataclass(frozen=True)
class Square:
    number: int
    folder: str
    seconds: float = 0.0

    @property
    def key(self):
        return json.dumps(asdict(self), sort_keys=True)


def square(task):
    """Leave a trace of each attempt; number 13 fails."""
    with (Path(task.folder) / f"{task.number}.log").open("a") as file:
        file.write("started\n")
    if task.number == 13:
        raise ValueError("unlucky")
    time.sleep(task.seconds)
    return {"task": asdict(task), "square": task.number**2}


def attempts(folder, number):
    path = Path(folder) / f"{number}.log"
    return path.read_text().count("started") if path.exists() else 0


def main(folder):
    tasks = [Square(number, folder, 0.2) for number in range(8)]
    run_all([tasks[:2], tasks[2:]], square, Path(folder) / "rows.jsonl", 2)


if __name__ == "__main__":
    main(sys.argv[1])
