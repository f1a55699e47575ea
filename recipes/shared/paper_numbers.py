"""Results of the FD-CMKD paper (Liu et al., AAAI 2026, arXiv 2511.19887).

Top-1 in %, of the best head and epoch on the test set; mean IoU in % for NYU-Depth V2.
"""

COLUMNS = (
    "CREMA-D audio", "CREMA-D video", "AVE audio", "AVE video", "VGGSound audio",
    "VGGSound video", "CrisisMMD text", "CrisisMMD image", "NYU depth", "NYU RGB",
)  # fmt: skip
#: By method; a column is the student's modality. The paper has no figure where `None` stands.
METHODS: dict[str, tuple[float | None, ...]] = {
    "none": (62.4, 66.8, 63.7, 38.8, 68.9, 44.9, 77.4, 70.2, 30.9, 34.1),
    "kd": (61.7, 62.6, 60.0, 39.1, 65.7, 45.4, 78.5, 70.5, None, None),
    "dist": (62.2, 64.0, 62.4, 40.3, 66.4, 45.5, 78.3, 71.3, 32.3, 34.9),
    "dkd": (61.0, 61.4, 60.5, 38.1, 64.4, 44.5, 79.0, 70.7, 32.5, 35.3),
    "feature_mse": (60.9, 64.3, 58.7, 39.6, 67.7, 45.5, 77.7, 70.8, None, None),
    "pkd": (60.4, 64.8, 58.0, 41.0, 62.9, 46.9, 77.5, 70.9, None, None),
    "c2kd": (57.5, 59.8, 62.7, 39.3, 67.0, 47.9, 77.9, 71.4, 31.8, 34.8),
    "published": (64.1, 71.0, 64.9, 47.8, 70.0, 48.1, 79.1, 72.7, 33.2, 36.9),
}
FULL = "ablation: all with logMSE"
#: Of CREMA-D and AVE, as the next.
ABLATION: dict[str, tuple[float | None, ...]] = {
    "ablation: feature MSE": (60.9, 64.3, 58.7, 39.6),
    "ablation: frequency": (60.8, 68.7, 61.0, 43.3),
    "ablation: align": (60.9, 67.9, 63.2, 41.3),
    "ablation: frequency + align": (61.8, 68.7, 62.4, 45.8),
    "ablation: frequency + scale": (62.2, 70.0, 62.4, 44.8),
    "ablation: frequency + align + scale": (62.2, 70.6, 62.4, 46.0),
    FULL: (64.1, 71.0, 64.9, 47.8),
}
LOSSES: dict[str, tuple[float | None, ...]] = {
    "losses: MSE + MSE": (None, 70.5, None, None),
    "losses: logMSE + logMSE": (None, 68.0, None, None),
}
#: Rows of which the paper has a figure each, and which are one configuration here.
SAME = {"losses: MSE + MSE": "ablation: frequency + align + scale"}
_NONE = (None,) * 8
#: Rows of methods that this package does not have, by their titles.
OTHERS: dict[str, tuple[float | None, ...]] = {
    "CIRKDv2": (*_NONE, 33.1, 36.4),
    "CIRKDv2 + FD-CMKD": (*_NONE, 35.1, 37.9),
}


def paper_figure(method: str, column: str) -> float | None:
    """Return the paper's figure in %, or `None` if it has none.

    Args:
        method: Name of a row.
        column: One of `COLUMNS`.

    Example:
    >>> paper_figure("published", "AVE video"), paper_figure("kd", "NYU RGB")
    (47.8, None)
    """
    row = {**METHODS, **ABLATION, **LOSSES, **OTHERS}.get(method, ())
    place = COLUMNS.index(column)
    return row[place] if place < len(row) else None
