"""The packages of a distribution; everything else is in setup.cfg.

``tools/`` is installed as ``internvl_mm_tools`` and ``configs/`` as ``internvl_mm/configs``, so that an
installed package has the same commands and configs as a checkout.
"""

from setuptools import find_packages, setup

RENAMED = {'internvl_mm.configs': 'configs', 'internvl_mm_tools': 'tools'}

setup(
    packages=find_packages(include=['internvl_mm', 'internvl_mm.*']) + list(RENAMED),
    package_dir=RENAMED,
    # Their subfolders have no __init__.py: the files are data and scripts before they are modules.
    package_data={
        'internvl_mm': ['**/*.css', '**/*.html', '**/*.json', '**/*.svg', '**/*.txt'],
        'internvl_mm.configs': ['**/*.py'],
        'internvl_mm_tools': ['**/*.py', '**/*.sh'],
    },
)
