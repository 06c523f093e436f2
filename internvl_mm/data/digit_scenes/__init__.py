"""DigitScenes: scenes of real handwritten digits, in every task's format, from one seed and without a download."""

from __future__ import annotations

from internvl_mm.data.digit_scenes.digits import SourceDigits, load_source_digits
from internvl_mm.data.digit_scenes.scene import (
    Scene,
    SceneDigit,
    compose_digit,
    compose_scene,
    digit_at,
    scene_at,
)
from internvl_mm.data.digit_scenes.settings import DigitSceneSettings
from internvl_mm.data.digit_scenes.video import Video, compose_video, video_at
from internvl_mm.data.digit_scenes.write import read_index, write_digit_scenes

__all__ = [
    'DigitSceneSettings',
    'Scene',
    'SceneDigit',
    'SourceDigits',
    'Video',
    'compose_digit',
    'compose_scene',
    'compose_video',
    'digit_at',
    'load_source_digits',
    'read_index',
    'scene_at',
    'video_at',
    'write_digit_scenes',
]
