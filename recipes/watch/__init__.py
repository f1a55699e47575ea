"""Accelerometer and gyroscope of a smartwatch."""
