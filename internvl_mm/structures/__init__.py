"""The only types that cross rooms."""

from .chat import IGNORE, ChatBatch, ChatRecord, ChatSample, EncodedChat, QuestionSample
from .outputs import VisionFeatures
from .samples import BadSample, ImageSample, stack_field

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
    'stack_field',
]
