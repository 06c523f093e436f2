"""QLLaMA beside the MLP: 16 queries of a two-layer QLLaMA and 64 patches instead of 16 shuffled cells.

Command: OMP_NUM_THREADS=1 python tools/train.py configs/quickstart/ablations/chat_pretrain_intern_vit_tiny_digits_qllama.py \
    --cfg-options model.chat.vision.pretrained=work_dirs/finetune_intern_vit_tiny_digits
Hardware: 1 CPU core, fp32; minutes.
Expected: exact match 45.83 after 3 epochs (measured, seed 0; its parent 45.83: not told apart):
    docs/results/ablations.md.
"""

from mmengine.config import read_base

from internvl_mm.models.connectors import QLlamaQueries, QueryGlue

with read_base():
    from ..chat_pretrain_intern_vit_tiny_digits import *

_queries = dict(
    vocab_size=8, hidden_size=96, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4
)
model['chat']['connector'] = dict(
    type=QueryGlue, query_former=dict(type=QLlamaQueries, num_queries=16, qllama=_queries, frozen=False)
)
train_dataloader['dataset']['encoder'].update(tokens_per_tile=80)
benchmarks['digit_chat']['dataloader']['dataset']['encoder'].update(tokens_per_tile=80)
