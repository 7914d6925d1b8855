"""Metrics and figures of a trained model; pure functions first."""
