"""Agents as files: written from the log, and read into it."""
