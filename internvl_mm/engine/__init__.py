"""Runs: loops, optimisers, strategies, hooks, training states, config checks."""
