"""Samples in Parquet or Arrow tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from internvl_mm.data.datasets.base import BaseDataset, numbered_classes
from internvl_mm.data.datasets.paths import check_confined
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.registry import DATASETS
from internvl_mm.utils.errors import DataError, did_you_mean
from internvl_mm.utils.paths import ExistingPath

if TYPE_CHECKING:
    import datasets as hf  # at run time imported late: it takes a second that no other data set needs


@DATASETS.register_module()
class TableDataset(BaseDataset):
    """Images and labels in two columns of Parquet or Arrow files, through the ``datasets`` library.

    Args:
        path: A ``.parquet`` or ``.arrow`` file, a folder of such, or a folder written by ``save_to_disk``.
        num_classes: Number of classes; not needed where the table names them (a ``ClassLabel`` column).
        image_column: Column with the image: a struct of ``bytes`` and ``path`` (what ``datasets`` writes), or bytes.
            Files named by ``path`` alone are looked for below the table's folder.
        label_column: Column with the class index.
        options: See :class:`BaseDataset`.

    Raises:
        DataError: The table is missing or damaged, or a column is missing or of another type.
    """

    def __init__(
        self,
        path: ExistingPath,
        *,
        num_classes: int | None = None,
        image_column: str = 'image',
        label_column: str = 'label',
        **options: Any,
    ):
        import datasets as hf

        self._source = Path(path)
        self._folder = self._source if self._source.is_dir() else self._source.parent
        table = _load_table(self._source)
        for setting, column in dict(image_column=image_column, label_column=label_column).items():
            if column not in table.column_names:
                hint = did_you_mean(column, table.column_names)
                raise DataError(
                    f"{path}: {setting}='{column}' is not among its columns {table.column_names}.{hint}"
                )
        feature = table.features[label_column]
        names = feature.names if isinstance(feature, hf.ClassLabel) else None
        if names is None:
            if num_classes is None:
                raise DataError(f"{path}: column '{label_column}' has no class names; give num_classes")
            names = numbered_classes(num_classes)
        elif num_classes not in (None, len(names)):
            raise DataError(f'{path}: names {len(names)} classes, but num_classes={num_classes}')
        if isinstance(table.features[image_column], hf.Image):
            # Leave decoding to our decoder: its bounds and errors are the same for every data set.
            table = table.cast_column(image_column, hf.Image(decode=False))
        # Alone: reading a row of the whole table would read its other columns, too.
        self._images = table.select_columns([image_column])
        self._column = image_column
        super().__init__(_labels(table, label_column, path), names, **options)

    def path(self, index: int) -> str:
        """Table and row, as ``table.parquet[7]``."""
        return f'{self._source}[{int(index)}]'

    def read(self, index: SampleIndex) -> bytes | Path:
        """See :class:`BaseDataset`."""
        cell = self._images[int(index)][self._column]
        content, path = (cell.get('bytes'), cell.get('path')) if isinstance(cell, dict) else (cell, None)
        if content is None and path:
            # A table may be a stranger's: its paths lead nowhere but below its folder.
            return self._folder / check_confined(path, self.path(index))
        if not isinstance(content, bytes):
            raise DataError(
                f"{self.path(index)}: column '{self._column}' holds {type(cell).__name__}, not an image"
            )
        return content


def _load_table(source: Path) -> hf.Dataset:
    import datasets as hf
    import pyarrow as pa
    from datasets.exceptions import DatasetGenerationError

    try:
        if (source / 'dataset_info.json').is_file():
            return hf.load_from_disk(str(source))
        # Sorted: directories list their files in any order.
        files = sorted(str(file) for file in source.iterdir()) if source.is_dir() else [str(source)]
        for kind in ('parquet', 'arrow'):
            chosen = [file for file in files if file.endswith(f'.{kind}')]
            if chosen:
                # 'train' is what the library calls files for which no split is named.
                return hf.load_dataset(kind, data_files=chosen, split='train')
    except (OSError, pa.ArrowException, DatasetGenerationError) as error:
        # The library's own error says only that generating the data set failed.
        cause = error.__cause__ or error
        raise DataError(f"table '{source}': missing or damaged ({cause}); copy it again") from error
    raise DataError(f"table '{source}': holds no .parquet or .arrow file and was not written by save_to_disk")


def _labels(table: hf.Dataset, column: str, path: str) -> np.ndarray:
    # As one array: Python objects of a million rows would take seconds and memory.
    labels = np.asarray(table.with_format('numpy')[column][:])
    if labels.dtype.kind not in 'iu' or labels.ndim != 1:  # signed or unsigned integers
        held = f'{labels.dtype}' + (' lists' if labels.ndim > 1 else '')
        raise DataError(f"{path}: column '{column}' holds {held} instead of one class index per row")
    return labels
