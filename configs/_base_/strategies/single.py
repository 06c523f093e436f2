"""One process on one device."""

from internvl_mm.engine.strategies import SingleDeviceStrategy

strategy = dict(type=SingleDeviceStrategy, precision='auto')
