"""internvl_mm: one InternViT, one config tree, every job."""

__version__ = '0.1.0'
