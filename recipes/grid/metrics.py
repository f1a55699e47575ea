"""How many words of a sentence are wrong."""

from typing import Any

from keras import ops

_NEVER = 1e4  # Dearer than any sentence.


def word_error_rate(y_true: Any, y_pred: Any) -> Any:
    """Insertions, deletions and substitutions of words, as a fraction of the words said.

    Of each step the likeliest word counts (greedy decoding of CTC: repeated ones and blanks, 0, are
    left out). Levenshtein's distance is computed with a row for each word that was said and a
    column for each step; steps that are left out cost nothing.

    Args:
        y_true: Words from 1, shape `(batch, words)`.
        y_pred: Logits, shape `(batch, steps, 1 + vocabulary)`.

    Returns:
        Shape `(batch,)`.
    """
    y_true = ops.cast(y_true, "int32")
    best = ops.cast(ops.argmax(y_pred, axis=-1), "int32")
    # -1 is no word, so the first step repeats nothing.
    before = ops.pad(best[:, :-1], [[0, 0], [1, 0]], constant_values=-1)
    kept = ops.logical_and(best != 0, best != before)
    # Of what was heard before each of `steps + 1` places.
    heard = ops.pad(ops.cumsum(ops.cast(kept, "float32"), axis=1), [[0, 0], [1, 0]])
    places = ops.arange(heard.shape[1])
    row = heard
    for word in range(y_true.shape[1]):
        differs = ops.cast(best != y_true[:, word : word + 1], "float32")
        match = row[:, :-1] + ops.where(kept, differs, _NEVER)
        row = ops.minimum(row + 1.0, ops.pad(match, [[0, 0], [1, 0]], constant_values=_NEVER))
        # The cheapest way from any place before, whose insertions follow.
        ways = row[:, None, :] + heard[:, :, None] - heard[:, None, :]
        row = ops.min(ops.where(places[:, None] >= places, ways, _NEVER), axis=-1)
    return row[:, -1] / y_true.shape[1]
