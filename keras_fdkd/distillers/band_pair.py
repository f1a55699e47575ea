"""BandPair: the bands of one feature of the teacher, paired with one of the student."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fdkd.distillers.align_loss import CROSS_ENTROPIES, interleave
from keras_fdkd.distillers.masks import both, fitted, masks_of, only, with_samples
from keras_fdkd.distillers.presence import mean_present, present, times, weight_of
from keras_fdkd.layers import BandClassifier
from keras_fdkd.losses.band_padding import without_padding
from keras_fdkd.losses.cross_modal_loss import takes_argument
from keras_fdkd.losses.frequency_distillation import FrequencyDistillation
from keras_fdkd.losses.reduction import divides, masked_weights, mean_over, weights_like

_BATCH = 32  # rows at a time, like Keras's `predict`


class BandPair:
    """One pair of features: its projector, its split and the classifiers of its bands.

    Args:
        keys: Names of the features among the outputs of the teacher's tap and of the student's.
        frequency: Splits and compares.
        projector: Built layer that brings the student's feature to the teacher's shape, or `None`.
        heads: For `"align"` and `"band_task"`, the classifier of each band; empty for none.
        weight: Weight of this pair among several.
        is_masked: Whether one of the features carries a Keras mask.
        is_aligned: Whether both have the same positions, so that one mask serves both.
        moves_steps: Whether the valid steps are resampled to compare them.
    """

    def __init__(
        self,
        keys: tuple[str, str],
        frequency: FrequencyDistillation,
        projector: keras.Layer | None,
        heads: Mapping[str, Mapping[str, BandClassifier]],
        weight: float,
        is_masked: bool = False,
        is_aligned: bool = True,
        moves_steps: bool = False,
    ) -> None:
        self.keys = keys
        self.frequency = frequency
        self.projector = projector
        self.align_heads = dict(heads["align"])
        self.band_task_heads = dict(heads["band_task"])
        self.weight = weight
        self.is_masked = is_masked
        self.is_aligned = is_aligned
        self.moves_steps = moves_steps
        self.labels_have_positions = False  # Until `check_heads` knows the loss.

    @property
    def layers(self) -> list[Any]:
        """The layers of this pair, for the distiller to track."""
        return [self.projector, self.align_heads, self.band_task_heads]

    def compare(
        self, teacher: Mapping[str, Any], student: Mapping[str, Any], training: bool
    ) -> dict[str, Any]:
        """Return the bands, the logits of the heads, and what counts; runs inside `call`."""
        names = [self.keys[0]], [self.keys[1]]
        wanted, feature = teacher[self.keys[0]], student[self.keys[1]]
        masks = masks_of(names, teacher, student)
        weight = weight_of(names[0], teacher)
        is_aligned = self.is_aligned or self._is_about_positions(weight)
        mask: Any = both(masks) if is_aligned else tuple(map(only, masks))
        if getattr(self.projector, "resamples_steps", False) and not is_aligned:
            # After it, all of the student's steps are valid.
            feature = self.projected(feature, training, mask[1])
            mask = (mask[0], None if mask[1] is None else fitted(mask[1], feature))
        else:
            feature = self.projected(feature, training)
        before = mask
        wanted, feature, mask = without_padding(self.frequency, wanted, feature, mask)
        lost = is_aligned and mask is not None and len(mask.shape) < 2
        of_positions = weight is not None and len(weight.shape) > 1
        if lost and of_positions and self.labels_have_positions:
            raise ValueError(
                '`"teacher_weight"` of steps leaves out some of a sequence that is split along its '
                "steps: what remains is resampled, and the band classifiers would judge it by the "
                "labels of other steps. Pass one weight per sample, split the channels (`axis=-1`) "
                f"or use `align_weight=0`. Received: axis={self.frequency.axis}."
            )
        mask = with_samples(mask, present(weight))
        seen, made = self.frequency.split(wanted), self.frequency.split(feature)
        fits = mask is not None and len(mask.shape) == len(wanted.shape) - 1
        # `BandClassifier` refuses a mask of samples alone where there are positions.
        one = {"mask": mask} if fits else {}
        return {
            "bands": {band: (seen[band], made[band]) for band in self.frequency.bands},
            "mask": mask,
            "weight": weight,
            # What counted before the positions became one spectrum.
            "positions": before if lost else None,
            "align": {
                band: _judged(head, [seen[band], made[band]], one)
                for band, head in self.align_heads.items()
            },
            "band_task": {
                band: head(made[band], **one) for band, head in self.band_task_heads.items()
            },
        }

    def projected(self, feature: Any, training: bool, mask: Any = None) -> Any:
        """Return the student's feature in the shape of the teacher's."""
        if self.projector is None:
            return feature
        masked = mask is not None and takes_argument(type(self.projector).call, "mask")
        more = {"mask": mask} if masked else {}
        return self.projector(feature, training=training, **more)

    def predict(self, feature: np.ndarray, batch_size: int | None) -> np.ndarray:
        """Return the student's feature as it is compared, computed batch by batch."""
        if self.projector is None:
            return feature
        size = batch_size or _BATCH
        parts = [feature[start : start + size] for start in range(0, len(feature), size)]
        return np.concatenate([ops.convert_to_numpy(self.projected(p, False)) for p in parts])

    def losses_of(
        self, compared: Mapping[str, Any], sample_weight: Any, valid: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the losses of the bands and the mean cosine of each band.

        Args:
            compared: What `compare` returned.
            sample_weight: Of samples or positions, or `None`.
            valid: Which of them count, or `None`.
        """
        weight = times(sample_weight, compared["weight"])
        weight, valid = (mean_over(one, compared["positions"]) for one in (weight, valid))
        return self.frequency.compare(compared["bands"], weight, compared["mask"], valid)

    def weight_of_labels(
        self,
        compared: Mapping[str, Any],
        sample_weight: Any,
        there: Any,
        labelled: Any,
        loss: Any,
    ) -> Any:
        """Return the weights for the losses of the heads, of samples or positions, or `None`.

        Args:
            compared: What `compare` returned.
            sample_weight: Of samples or positions, or `None`.
            there: Which samples have labels, shape `(batch,)`, or `None`: all.
            labelled: Where the loss of the heads finds labels, over which it takes its mean.
            loss: The loss of the heads.
        """
        own, mask = compared["weight"], compared["mask"]
        if own is None and mask is None and there is None:
            return sample_weight
        positions = self._judged_positions()
        if positions is None or type(loss) is keras.losses.CTC:  # A value for each sample.
            if mask is not None and len(mask.shape) > 1:
                # Heads of whole samples have left padding out; absent samples remain.
                mask = present(own)
            own, positions = None if own is None else mean_present(own), None
        elif own is not None and len(own.shape) > 1 and not self.is_masked:
            mask = None  # In the feature's positions, which may be coarser than those of labels.
        band = next(iter(compared["bands"].values()))[1]
        sizes = [
            ops.shape(band)[axis] if size is None else size
            for axis, size in enumerate(positions or (), 1)
        ]
        ones = ops.ones((ops.shape(band)[0], *sizes), dtype="float32")
        if own is not None:
            own = weights_like(ones, own) * ones
        masks = mask, None if own is None else own > 0, there
        weight = times(sample_weight, own)
        if all(one is None for one in masks):
            return weight
        return masked_weights(ones, weight, *masks, base=labelled, is_mean=divides(loss))

    def _is_about_positions(self, weight: Any) -> bool:
        """Whether the teacher's weights tell positions apart, to which the projector brings both.

        Raises:
            ValueError: If padding does so too, which each side has of its own.
        """
        if weight is None or len(weight.shape) < 2:
            return False
        if self.is_masked and not self.is_aligned:
            raise ValueError(
                'The features differ in their positions and carry a Keras mask, so `"teacher_'
                'weight"` of positions has no place: pass one weight per sample, or `time_steps`.'
                f" Received: weights of shape {tuple(weight.shape)}."
            )
        return True

    def check_heads(self, loss: Any, are_resampled: bool) -> None:
        """Raise if heads that judge positions would judge padding, or steps by other labels.

        Args:
            loss: The loss of the heads.
            are_resampled: Whether valid steps were resampled before they came here.
        """
        self.labels_have_positions = (
            self._judged_positions() is not None and type(loss) is not keras.losses.CTC
        )
        if self._judged_positions() is None:
            return
        is_moved = are_resampled or self.moves_steps
        if type(loss) is keras.losses.CTC:  # Its labels are of no particular steps.
            if self.is_masked and not is_moved:
                raise ValueError(
                    "The features carry a Keras mask, and the band classifiers would judge padding "
                    "too: use `time_steps`, after which there is none, or `align_weight=0`. "
                    f"Received: align_loss={loss!r}."
                )
        elif is_moved:
            raise ValueError(
                "The features carry a Keras mask, and their valid steps are resampled, so the band "
                "classifiers would judge each by the label of another: use `align_weight=0` and "
                "`band_task_weight=0`, or compare features of the same steps along the channels, "
                f"`axis=-1`, without `time_steps`. Received: align_loss={loss!r}."
            )
        elif self.is_masked and type(loss) not in CROSS_ENTROPIES:
            raise ValueError(
                "The features carry a Keras mask, and the loss of the band classifiers would judge "
                "the padding too: use a cross-entropy of positions, or `align_weight=0`. "
                f"Received: align_loss={loss!r}."
            )

    def _judged_positions(self) -> tuple[int | None, ...] | None:
        """Return the sizes of the positions that the heads classify, `None` if whole samples."""
        heads = [*self.align_heads.values(), *self.band_task_heads.values()]
        return heads[0].positions if heads else None


def _judged(head: BandClassifier, sides: list[Any], masked: dict[str, Any]) -> Any:
    """Return the logits of both sides, interleaved, from one call."""
    if head.positions is None:
        # Pooled first: a copy of all positions would take longer than the classifier.
        return head(interleave([head.pooled(side, **masked) for side in sides]))
    mask = {name: interleave([value, value]) for name, value in masked.items()}
    return head(interleave(sides), **mask)
