"""What distillation did to the features. Plots need the extra `study`."""

from keras_fdkd.analysis.plots import plot_learning_curves, plot_modalities, plot_similarity
from keras_fdkd.analysis.similarity import SimilarityReport, band_similarity, extract_features

__all__ = [
    "SimilarityReport",
    "band_similarity",
    "extract_features",
    "plot_learning_curves",
    "plot_modalities",
    "plot_similarity",
]
