"""The data of a distiller: paired batches, and the outputs of a teacher that ran before."""

from keras_fdkd.data.finite import check_finite, checked
from keras_fdkd.data.record_teacher import open_recorded, record_teacher
from keras_fdkd.data.shards import shard
from keras_fdkd.data.teacher_cache import cache_teacher

__all__ = [
    "cache_teacher",
    "check_finite",
    "checked",
    "open_recorded",
    "record_teacher",
    "shard",
]
