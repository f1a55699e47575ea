"""Mouth and sound of spoken sentences: sequences of different rates and lengths."""
