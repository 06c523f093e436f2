"""Room 3, compute: architectures are plain modules, tasks wire them for mmengine."""

import logging

# peft imports bitsandbytes where it is installed, which on CPUs then asks for one more package, in any command.
logging.getLogger('bitsandbytes.backends.cpu.ops').setLevel(logging.ERROR)
