"""Answers beside each other."""
