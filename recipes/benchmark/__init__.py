"""All methods on real pairs of modalities."""
