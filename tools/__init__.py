"""Doors: thin commands that parse arguments, read a config and run it; installed as ``internvl_mm_tools``."""
