"""Doors that bring data sets into the folders that configs expect."""
