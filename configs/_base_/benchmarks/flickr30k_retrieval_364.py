"""Flickr30k retrieval, Karpathy's test split: 1,000 images squashed to 364×364, 5,000 cleaned captions.

Obtain: images below data/flickr30k/Images, flickr30k_test_karpathy.txt beside it (published with InternVL).
"""

from internvl_mm.data.captions import CleanCaption
from internvl_mm.data.collate import collate_samples
from internvl_mm.data.datasets import CaptionListDataset
from internvl_mm.data.samplers import EvalSampler
from internvl_mm.evaluation.metrics import RetrievalRecall
from internvl_mm.preprocess import ResizeSquash

benchmarks = dict(
    flickr30k=dict(
        dataloader=dict(
            batch_size=64,
            num_workers=4,
            sampler=dict(type=EvalSampler),
            collate_fn=dict(type=collate_samples),
            dataset=dict(
                type=CaptionListDataset,
                name='flickr30k',
                root='data/flickr30k/Images',
                file='data/flickr30k/flickr30k_test_karpathy.txt',
                caption_transform=dict(type=CleanCaption),
                transform=[dict(type=ResizeSquash, size=364)],
            ),
        ),
        metrics=[dict(type=RetrievalRecall)],
    ),
)
