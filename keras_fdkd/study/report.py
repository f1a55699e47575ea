"""A report in Markdown: advice, tables, pictures, and how the study was done."""

from pathlib import Path
from typing import TYPE_CHECKING

from keras_fdkd.arguments import check_number
from keras_fdkd.study.tables import HEAD, cells, heading
from keras_fdkd.study.work import NONE

if TYPE_CHECKING:
    from keras_fdkd.study.results import Results

_PICTURES = {
    "gains": "Improvements over no distillation.",
    "curves": "Validation scores by epoch, mean over splits and seeds.",
    "budgets": "Score against labels.",
    "cost": "Score against the time of a training step.",
}


def write_report(results: "Results", path: Path, margin: float) -> Path:
    """Write the report, with its pictures next to it, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["# Does distillation help?", ""]
    # One split has no spread to judge by.
    if len(results.info["splits"]) > 1:
        lines += [advice_text(results, margin), ""]
    lines += [f"> {warning}" for warning in results.warnings()]
    for budget in results.budgets:
        lines += ["", f"## {heading(results, budget)}", "", *markdown_table(results, budget)]
    lines += ["", "## Pictures", ""]
    for kind, caption in _PICTURES.items():
        if kind == "budgets" and len(results.budgets) < 2:
            continue
        picture = path.with_name(f"{path.stem}_{kind}.png")
        results.plot(kind).savefig(picture, dpi=120)
        lines += [f"![{caption}]({picture.name})", ""]
    lines += ["## Settings that validation chose most often", ""]
    lines += [
        f"- {line.title}, {'all' if budget is None else budget} labels: "
        f"{line.setting or 'nothing to choose'}, of {line.tried} tried"
        for budget in results.budgets
        for line in results.summaries(budget)
        if line.method != NONE
    ]
    lines += ["", "## How it was done", "", *_protocol(results)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def advice_text(results: "Results", margin: float = 0.0) -> str:
    """Return the recommendation as text, or why there is none."""
    check_number("margin", margin)
    try:
        return str(results.recommend(margin))
    except ValueError as error:  # Too many runs failed.
        return str(error)


def markdown_table(results: "Results", budget: int | None) -> list[str]:
    """Return the lines of the table for a budget."""
    rule = ["---", *["---:"] * (len(HEAD) - 1)]
    rows = [HEAD, rule, *(cells(line) for line in results.summaries(budget))]
    return ["| " + " | ".join(row) + " |" for row in rows]


def _protocol(results: "Results") -> list[str]:
    info = results.info
    sizes = [f"{split['train']}/{split['validation']}/{split['test']}" for split in info["splits"]]
    return [
        f"- {len(sizes)} splits of {info['cv']}, samples for training/validation/test: "
        f"{', '.join(sizes)}; seeds {info['seeds']} in each; backend {info['backend']}.",
        "- Within a split and seed all methods have the same initial weights, batches and number "
        "of steps. Setting and epoch are chosen on the validation fold; the test fold is read "
        "once.",
        f"- At most {info['trials']} settings a method, tuned with the first seed of each split. "
        "No distillation has nothing to tune but the epoch.",
        "- Gains are paired: the same split and seed; seeds of a split are averaged. Intervals and "
        "p values are those of the corrected resampled t test (Nadeau and Bengio, 2003), since "
        "splits share samples; `p, Holm` is adjusted for the number of methods.",
        "- `kept`: the gain where, in each run, the student with the better validation "
        "score is kept, the plain or the distilled one. `worst`: the gain in the worst split. "
        "`step`: time of a training step, no distillation = 1.",
        "- A score with a number of runs in brackets is of these alone: the others failed or are "
        "still to come. Do not compare it with scores of other runs; its gain is paired, so it "
        "stands. In the pictures such scores are hollow.",
    ]
