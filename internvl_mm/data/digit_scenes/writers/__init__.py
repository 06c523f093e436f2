"""One writer per format. Each takes the data set's root folder and samples, and returns what it counted."""
