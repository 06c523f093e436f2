"""Room 3, compute: architectures are plain modules, tasks wire them for mmengine."""
