"""Measurements and long checks against a real server; see README.md."""
