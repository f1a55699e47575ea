"""Class weights of `tf.data` pipelines, also for labels that mark a missing label."""

from typing import Any

import keras


def with_class_weight(data: Any, arguments: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return a `tf.data.Dataset` with class weights as sample weights, and the other arguments.

    Keras looks the weights up in a table, where the label -1 would be the last class. Here, as for
    arrays, a label without a weight has weight 1. Other data are returned unchanged.

    Args:
        data: What `fit` got.
        arguments: Keyword arguments of `fit`.
    """
    weights = arguments.get("class_weight")
    if not weights or not (hasattr(data, "element_spec") and hasattr(data, "map")):
        return data, arguments
    spec = data.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2 or keras.tree.is_nested(spec[1]):
        return data, arguments  # Keras reports what is wrong with these.
    import tensorflow as tf

    classes = tf.constant(list(weights), tf.int64)
    values = tf.constant(list(weights.values()), tf.float32)

    def weigh(x: Any, y: Any) -> tuple[Any, Any, Any]:
        labels = y
        if labels.shape.rank and labels.shape.rank > 1:
            # As Keras reads labels of two axes: a column of indices, or one-hot.
            one = labels.shape[-1] == 1
            labels = tf.squeeze(labels, -1) if one else tf.argmax(labels, axis=-1)
        same = tf.equal(tf.cast(labels, tf.int64)[..., None], classes)
        found = tf.reduce_sum(tf.where(same, values, 0.0), axis=-1)
        return x, y, tf.where(tf.reduce_any(same, axis=-1), found, 1.0)

    # Keras refuses class weights beside sample weights.
    return data.map(weigh), {**arguments, "class_weight": None}
