"""What the package promises as a package: its README, its imports, its public names."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_fdkd

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_readme_has_blocks():
    assert len(BLOCKS) >= 2


def test_readme_is_a_page():
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_readme_block_runs_alone(number, tmp_path):
    """Each Python block is a whole program: it runs in a new process and an empty folder."""
    if "Study(" in BLOCKS[number] and keras.config.backend() != "torch":
        pytest.skip("twenty trainings run once, on PyTorch; tests/test_study.py has each backend")
    result = subprocess.run(
        [sys.executable, "-c", BLOCKS[number]], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    if "Study(" in BLOCKS[number]:
        assert "With all labels: " in result.stdout
    else:  # The teacher helps, on every backend.
        alone, distilled = map(float, result.stdout.split()[-2:])
        assert alone + 0.1 < distilled
    for name in re.findall(r"student\.save\(\s*\"([^\"]+)\"", BLOCKS[number]):
        assert (tmp_path / name).is_file()


def test_readme_commands_name_real_things():
    commands = re.findall(r"```(?:sh|bash)\n(.*?)```", README, flags=re.DOTALL)
    named = re.findall(r"nox -s ((?:\w+ ?)+)", "\n".join(commands))
    sessions = {session for names in named for session in names.split()}
    defined = set(re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(), re.M))
    assert {"demo", "lint", "tests"} <= sessions <= defined


def test_readme_names_files_that_exist():
    for path in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / path).exists(), path


#: Rows of the README's table of measurements, by the benchmark's names.
MEASURED = {
    "KD": "kd",
    "C2KD": "c2kd",
    "`FrequencyDistiller`, defaults": "ours_defaults",
    "a tenth of its weights": "ours_tenth",
    "its weights tuned as for the others": "ours_bands",
    "the same without bands, weights tuned": "ours_whole",
}


def test_readme_figures_are_the_committed_ones():
    """Each row of the table of measurements holds what the rows in the project give."""
    from recipes.benchmark.short_tables import gains_table, load_results

    found = gains_table(load_results(), tuple(MEASURED.values()))[2:-1]
    expected = [
        f"| {title} |{line.split('|', 2)[2]}" for title, line in zip(MEASURED, found, strict=True)
    ]
    assert expected == [line for line in README.splitlines() if line in expected]


def test_the_demo_s_figures_are_the_committed_ones():
    """README and guide quote what the demo wrote."""
    demo = (ROOT / "recipes" / "results" / "demo" / "demo.md").read_text(encoding="utf-8")
    demo = demo.split("\n|")[0]  # The sentences, without the table.
    alone, taught = re.findall(r"([\d.]+) %", demo)
    distilled, control = re.findall(r"([+-][\d.]+ \[[+-][\d.]+, [+-][\d.]+\]) points", demo)
    text = " ".join(README.split())
    assert f"classifies {alone} % of unseen" in text
    assert f"{taught} % ({distilled.replace(']', '] points')}" in text
    assert f"wrong names: {control}" in text
    guide = " ".join((ROOT / "docs" / "guides" / "benchmark.md").read_text().split())
    assert f"text teaches pictures {distilled} points" in guide
    assert f"names of other emoji teach them {control}" in guide


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs" / "guides").glob("*.md")), ids=lambda path: path.stem
)
def test_tables_of_guides_are_rendered(path):
    """Without this setting a table that a cell returns is shown as text."""
    text = path.read_text(encoding="utf-8")
    if "Markdown(" in text:
        assert "\n  render_markdown_format: myst\n" in text.split("---")[1]


def test_ci_calls_the_test_command_of_the_readme():
    command = (ROOT / ".ci" / "run").read_text().strip().splitlines()[-1]
    assert f"```sh\n{command}\n```" in README


def test_no_backend_at_module_level():
    """The library imports Keras and NumPy alone; anything else inside a function, or in the study.

    Whoever imports that has its extra, which brings no backend.
    """
    core = {"keras", "numpy", "keras_fdkd"} | set(sys.stdlib_module_names)
    study = {"cloudpickle", "joblib", "matplotlib", "optuna", "rich", "scipy", "sklearn"}
    for path in (ROOT / "keras_fdkd").rglob("*.py"):
        source = path.read_text()
        assert "keras.src" not in source, path
        for node in ast.parse(source).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            allowed = core | study if path.parent.name == "study" else core
            assert {name.split(".")[0] for name in names} <= allowed, path


def test_import_needs_no_extra(tmp_path):
    """Importing the package loads neither plots nor scikit-learn."""
    extras = ("matplotlib", "sklearn", "keras_hub", "rich", "optuna", "joblib")
    code = (
        f"import sys, keras; before = [m for m in {extras} if m in sys.modules]; "  # Keras's own
        f"import keras_fdkd; print(before == [m for m in {extras} if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, cwd=tmp_path,
    )  # fmt: skip
    assert result.stdout.strip().endswith("True")


@pytest.mark.parametrize("name", keras_fdkd.__all__)
def test_public_names_exist(name):
    assert hasattr(keras_fdkd, name)
