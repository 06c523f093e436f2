"""The only types that cross rooms."""

from .chat import IGNORE, ChatBatch, ChatRecord, ChatSample, EncodedChat, QuestionSample
from .outputs import VisionFeatures
from .samples import BadSample, ImageSample, describe, name_samples, stack_field

__all__ = [
    'IGNORE',
    'BadSample',
    'ChatBatch',
    'ChatRecord',
    'ChatSample',
    'EncodedChat',
    'ImageSample',
    'QuestionSample',
    'VisionFeatures',
    'describe',
    'name_samples',
    'stack_field',
]
