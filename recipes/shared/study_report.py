"""One report of the studies of several directions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_fdkd.study import Results
from keras_fdkd.study.report import advice_text
from recipes.shared.markdown import table
from recipes.shared.study_command import Direction


def write_study_report(
    folder: Path,
    title: str,
    introduction: Sequence[str],
    results: Mapping[Direction, Results],
    conclusion: Sequence[str] = (),
) -> Path:
    """Write `report.md`, and beside it a report with pictures for each direction.

    Args:
        folder: Where they go.
        title: Heading.
        introduction: Lines of Markdown: what is asked, the data, their source and licence.
        results: By direction.
        conclusion: Lines of Markdown that follow the tables, such as pictures of the recipe's own.

    Returns:
        The path of `report.md`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"# {title}", "", *introduction, "", "## In short", "", *_summary(results)]
    for (teacher, student), found in results.items():
        path = found.report(folder / f"{teacher}-{student}.md")
        lines += [f"## {teacher} teaches {student}", ""]
        if len(found.info["splits"]) > 1:
            lines += [advice_text(found), ""]
        picture = f"{path.stem}_gains.png"
        lines += [f"Each split, curves, settings and costs: [{path.name}]({path.name}).", ""]
        lines += [f"![Improvements over no distillation.]({picture})", ""]
    path = folder / "report.md"
    path.write_text("\n".join([*lines, *conclusion]).rstrip() + "\n", encoding="utf-8")
    return path


def _summary(results: Mapping[Direction, Results]) -> list[str]:
    """Return a table with a column for each direction and label budget."""
    first = next(iter(results.values()))
    places = [(d, budget) for d, found in results.items() for budget in found.budgets]
    head = [
        f"{teacher} → {student}, {'all' if budget is None else budget} labels"
        for (teacher, student), budget in places
    ]
    summaries = {
        (direction, budget): {one.method: one for one in results[direction].summaries(budget)}
        for direction, budget in places
    }
    teachers = [f"{results[d].teacher(budget)[0]:.3g}" for d, budget in places]
    alone = [
        f"{found['none'].score:.3g}" if "none" in found else "-" for found in summaries.values()
    ]
    rows = [("the teacher", *teachers), ("no distillation", *alone)]
    for method in first.methods:
        cells = [
            str(found[method].gain) if method in found else "-" for found in summaries.values()
        ]
        rows.append((first.title(method), *cells))
    return [
        f"Mean {first.info['score']} on the test folds, of teacher and student alone; below, each "
        f"method's gain over no distillation with its 95 % interval.",
        "",
        *table(("", *head), rows),
    ]
