"""Satellite picture and relief of the Earth: the climate of each pixel."""
