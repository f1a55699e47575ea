"""The variants: by name, what makes each of them differ from the student alone."""

from typing import Any

from recipes.variants.parts import SoftCutoff, Turned

BANDS = {"low_weight": 3.0, "high_weight": 1.0, "align_weight": 0.3}
# As much weight as both bands have together.
WHOLE = {"cutoff": None, "low_weight": 4.0, "high_weight": 0.0, "align_weight": 0.3}
#: Bands, other losses, and what of `recipes.variants.parts` takes part.
VARIANTS: dict[str, dict[str, Any]] = {
    "student alone": {},
    "KD": {"losses": [["KD", 2.0]]},
    "PKD": {"losses": [["PKD", 6.0]]},
    "DIST": {"losses": [["DIST", 2.0]]},
    "bands (the defaults)": {"bands": BANDS},
    "bands, a third of the weight": {"bands": {**BANDS, "low_weight": 1.0, "high_weight": 0.33}},
    "bands, 3 times the weight": {"bands": {**BANDS, "low_weight": 9.0, "high_weight": 3.0}},
    "bands, 10 times the weight": {"bands": {**BANDS, "low_weight": 30.0, "high_weight": 10.0}},
    "bands, 3 times the weight, no shared classifiers": {
        "bands": {"low_weight": 9.0, "high_weight": 3.0, "align_weight": 0.0},
    },
    "bands, 3 times the weight, classifiers too": {
        "bands": {"low_weight": 9.0, "high_weight": 3.0, "align_weight": 1.0},
    },
    "bands, MSE in both": {"bands": {**BANDS, "high_loss": "mse"}},
    "low band alone": {"bands": {**WHOLE, "cutoff": 0.5}},
    "bands + KD": {"bands": BANDS, "losses": [["KD", 2.0]]},
    "bands + PKD": {"bands": BANDS, "losses": [["PKD", 6.0]]},
    "bands + RKD": {"bands": BANDS, "losses": [["RKD", 0.1]]},
    "bands of shuffled channels": {"bands": BANDS, "basis": "shuffled"},
    "bands of channels in the order of the teacher's correlations": {
        "bands": BANDS, "basis": "seriation",
    },
    "bands of the teacher's principal components": {"bands": BANDS, "basis": "principal"},
    "16 leading principal components, whitened": {"bands": WHOLE, "basis": "whitened"},
    "no split": {"bands": WHOLE},
    "no split, weight 9": {"bands": {**WHOLE, "low_weight": 9.0}},
    "no split, no shared classifier": {"bands": {**WHOLE, "align_weight": 0.0}},
    "no split, shared classifier of weight 1": {"bands": {**WHOLE, "align_weight": 1.0}},
    "no split + KD": {"bands": {**WHOLE, "low_weight": 9.0}, "losses": [["KD", 2.0]]},
    "bands along time (last maps)": {"bands": {**BANDS, "axis": 1}, "maps": "stage3"},
    "bands along channels of the last maps": {"bands": BANDS, "maps": "stage3"},
    "bands along time of the second maps": {"bands": {**BANDS, "axis": 1}, "maps": "stage2"},
    "bands, low frequencies what the student's modality predicts": {
        "bands": BANDS, "basis": "shared",
    },
    "low band alone, what the student's modality predicts": {
        "bands": {**WHOLE, "cutoff": 0.5}, "basis": "shared",
    },
    "16 directions that the student's modality predicts, whitened": {
        "bands": WHOLE, "basis": "shared, whitened",
    },
    "bands after a learned orthogonal map": {"bands": BANDS, "maker": Turned},
    "bands of a learned, soft cutoff": {"bands": BANDS, "maker": SoftCutoff},
    "bands, rising over the first quarter": {"bands": BANDS, "schedule": "rise"},
    "bands, fading to 0": {"bands": BANDS, "schedule": "fade"},
    "bands, fading to 0 in the first half": {"bands": BANDS, "schedule": "fade early"},
    "no split, fading to 0": {"bands": WHOLE, "schedule": "fade"},
    "bands, a tenth of the weight, classifiers too": {
        "bands": {"low_weight": 0.3, "high_weight": 0.1, "align_weight": 0.03},
    },
    "shared classifiers alone": {"bands": {**BANDS, "low_weight": 0.0, "high_weight": 0.0}},
    "bands, each pair by how well the student tells it": {"bands": BANDS, "followed": "samples"},
    "bands, by how well the student tells held-out pairs": {"bands": BANDS, "followed": "held out"},
    "no split, each pair by how well the student tells it": {
        "bands": WHOLE, "followed": "samples",
    },
    "no split, by how well the student tells held-out pairs": {
        "bands": WHOLE, "followed": "held out",
    },
    "KD, cross-fitted teacher": {"losses": [["KD", 2.0]], "cross_fitted": True},
    "bands + KD, cross-fitted teacher": {
        "bands": BANDS, "losses": [["KD", 2.0]], "cross_fitted": True,
    },
}  # fmt: skip
