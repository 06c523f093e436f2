"""What ``AutoProcessor`` needs beside a native chat folder: tiles, frames and prompt as the published model has them.

transformers' InternVL processor does what model cards do by hand, but its prompt is InternVL3's unless a folder brings
its own template, and its picture size and normalisation are another model's unless the folder says them.
"""

from __future__ import annotations

from typing import Any

from transformers import GotOcr2ImageProcessor, InternVLProcessor, InternVLVideoProcessor

from internvl_mm.models.hf_internvl_chat import InternVLChatConfig, InternVLChatModel
from internvl_mm.preprocess.chat_text import IMG_CONTEXT
from internvl_mm.preprocess.conversation import ChatTemplate
from internvl_mm.preprocess.image import IMAGENET_MEAN, IMAGENET_STD

VIDEO = '<video>'


def native_processor(model: InternVLChatModel, tokenizer: Any) -> InternVLProcessor:
    """Transformers' processor with the settings of a published chat model.

    Args:
        model: Tells sizes, tiles and template.
        tokenizer: With the image tokens under the names the processor looks for.
    """
    config: InternVLChatConfig = model.config
    side = dict(height=config.image_size, width=config.image_size)
    colours = dict(image_mean=list(IMAGENET_MEAN), image_std=list(IMAGENET_STD))
    # The class transformers' own InternVL processor cuts tiles with.
    images = GotOcr2ImageProcessor(
        size=side,
        crop_to_patches=config.dynamic_image_size,
        min_patches=config.min_dynamic_patch,
        max_patches=config.max_dynamic_patch,
        **colours,
    )
    template = None
    if model.conv_template is not None:
        template = jinja_template(model.conv_template, model.system_message)
    return InternVLProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        # A frame is one tile without a thumbnail.
        video_processor=InternVLVideoProcessor(size=side, **colours),
        image_seq_length=model.num_image_token,
        chat_template=template,
    )


def jinja_template(template: ChatTemplate, system_message: str) -> str:
    """A conversation template in the language of transformers' ``apply_chat_template``.

    Pictures and videos of a message stand where its content lists them, each on a line of its own, as on model cards;
    a system message at the beginning replaces the model's.

    Args:
        template: Text around the messages.
        system_message: Of the model.
    """
    opening = template.assistant[0] if template.assistant_open is None else template.assistant_open
    first = template.user[0] if template.first_user is None else template.first_user
    # chr(10): before Python 3.12 no backslash may stand within the braces of an f-string.
    content = (
        "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
        f"{{% if c['type'] == 'image' %}}{{{{ {_quoted(IMG_CONTEXT + chr(10))} }}}}"
        f"{{% elif c['type'] == 'video' %}}{{{{ {_quoted(VIDEO + chr(10))} }}}}"
        "{% elif c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}"
    )
    given = "messages and messages[0]['role'] == 'system'"
    # In an f-string {{{{ is Jinja's {{, and {{% is {%.
    return ''.join(
        (
            f'{{{{ {_quoted(template.system[0])} }}}}',
            f'{{% if {given} %}}{{% set m = messages[0] %}}{content}{{% else %}}{{{{ {_quoted(system_message)} }}}}',
            f'{{% endif %}}{{{{ {_quoted(template.system[1])} }}}}',
            f'{{% set turns = messages[1:] if {given} else messages %}}{{% for m in turns %}}',
            "{% if m['role'] == 'user' %}",
            f'{{{{ {_quoted(first)} if loop.first else {_quoted(template.user[0])} }}}}',
            content + f'{{{{ {_quoted(template.user[1])} }}}}',
            f'{{% else %}}{{{{ {_quoted(template.assistant[0])} }}}}',
            content + f'{{{{ {_quoted(template.assistant[1])} }}}}{{% endif %}}{{% endfor %}}',
            f'{{% if add_generation_prompt %}}{{{{ {_quoted(opening)} }}}}{{% endif %}}',
        )
    )


def _quoted(text: str) -> str:
    """A string of Jinja: backslash, quote and line break escaped, so that no text ends it."""
    escaped = text.replace('\\', '\\\\').replace("'", "\\'").replace('\n', '\\n')
    return f"'{escaped}'"
