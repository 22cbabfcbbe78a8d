"""Conversations as pages and as files."""
