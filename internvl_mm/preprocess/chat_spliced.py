"""LLaVA's way of putting images into text: spliced in between, without tokens of their own in the vocabulary."""

from __future__ import annotations

import numpy as np

from internvl_mm.preprocess.chat_text import ChatTextEncoder, _Atom, check_frame

# What stands in the ids for one visual token; no vocabulary has negative ids. LLaVA's own mark of a whole image.
PLACE = -200


class SplicedTextEncoder(ChatTextEncoder):
    """:class:`ChatTextEncoder` for models whose tokenizer knows no images (InternVL-Chat-13B and 19B).

    Text after an image is tokenised as if it began there, as LLaVA does; where it stood in the prompt ``PLACE`` is
    repeated once per visual token.

    Raises:
        ConfigError: The tokenizer has not the tokens of the template.

    Source: LLaVA ``tokenizer_image_token``; Liu et al. 2023 (arXiv 2310.03744).
    """

    def _check_tokenizer(self) -> None:
        check_frame(self.tokenizer.get_vocab(), self.template)

    def _image(self, count: int) -> _Atom:
        # No text: what follows has nothing in front of it.
        return _Atom('', ids=(PLACE,) * count)

    def _image_ends(self, ids: np.ndarray) -> np.ndarray:
        return np.flatnonzero(ids == PLACE)
