"""Distillation on several devices or in several processes."""
