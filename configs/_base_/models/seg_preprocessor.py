"""How segmentation pictures are normalised: BGR bytes to RGB of ImageNet statistics, padded with the mean colour.

Label maps are padded with 255, which no loss and no metric counts.
"""

from mmseg.models import SegDataPreProcessor

data_preprocessor = dict(
    type=SegDataPreProcessor,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size=(504, 504),
)
