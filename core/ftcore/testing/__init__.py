"""Helpers for testing plugins; each is a module of its own and imports nothing heavy."""
