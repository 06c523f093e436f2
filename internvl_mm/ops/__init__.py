"""Operators that would otherwise need compiled code."""
