"""The data of a distiller: paired batches, and the outputs of a teacher that ran before."""

from keras_fdkd.data.finite import check_finite, checked
from keras_fdkd.data.needs import Needs
from keras_fdkd.data.pairs import (
    INDEX,
    STUDENT,
    TEACHER,
    TEACHER_OUTPUTS,
    TEACHER_WEIGHT,
    check_pair,
    check_samples,
    has_teacher_outputs,
    is_pair,
    with_samples_of,
)
from keras_fdkd.data.record_teacher import open_recorded, record_teacher
from keras_fdkd.data.shards import shard
from keras_fdkd.data.teacher_cache import cache_teacher

__all__ = [
    "INDEX",
    "STUDENT",
    "TEACHER",
    "TEACHER_OUTPUTS",
    "TEACHER_WEIGHT",
    "Needs",
    "cache_teacher",
    "check_finite",
    "check_pair",
    "check_samples",
    "checked",
    "has_teacher_outputs",
    "is_pair",
    "open_recorded",
    "record_teacher",
    "shard",
    "with_samples_of",
]
