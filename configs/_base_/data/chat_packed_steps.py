"""chat_packed.py for training by steps, as the stages of InternVL2.5: no end of an epoch, samples of up to a whole pack."""

from mmengine.config import read_base

from internvl_mm.data.samplers import StreamSampler

with read_base():
    from .chat_packed import train_dataloader

train_dataloader.update(sampler=dict(type=StreamSampler))
# Published max_seq_length; adaptations to a domain, which take chat_packed.py, have half.
train_dataloader['dataset']['dataset']['encoder'].update(max_length=16_384)
