"""Small helpers every room may use: errors, console, paths, hashes, precision."""
