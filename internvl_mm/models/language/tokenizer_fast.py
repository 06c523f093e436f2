"""InternLM2's tokenizer as a ``tokenizer.json``, for readers without sentencepiece and for servers."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, processors
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast
from transformers.tokenization_utils_sentencepiece import SentencePieceExtractor

from .tokenizer import InternLM2Tokenizer


def as_fast_tokenizer(tokenizer: InternLM2Tokenizer) -> PreTrainedTokenizerFast:
    """The same ids from the tokenizers library.

    The pieces' scores order the merges, as in every conversion of a sentencepiece BPE; unknown letters become bytes.

    Args:
        tokenizer: Read from ``tokenizer.model``.
    """
    vocab, _, merges = SentencePieceExtractor(str(tokenizer.vocab_file)).extract(vocab_scores=True)
    added = tokenizer.added_tokens_decoder
    # A piece whose id an added token has taken has no name any more.
    vocab = {added[index].content if index in added else piece: index for piece, index in vocab.items()}
    fast = Tokenizer(BPE(vocab, merges, unk_token=tokenizer.unk_token, fuse_unk=True, byte_fallback=True))
    fast.normalizer = normalizers.Replace(' ', '▁')
    fast.decoder = decoders.Sequence([decoders.Replace('▁', ' '), decoders.ByteFallback(), decoders.Fuse()])
    # In the order of ids: the library counts on for those that the vocabulary does not have.
    fast.add_special_tokens(
        # normalized=False: found in the text as it is written, before spaces become ▁.
        [AddedToken(token.content, special=True, normalized=False) for _, token in sorted(added.items())]
    )
    if tokenizer.add_bos_token:
        begin = (tokenizer.bos_token, tokenizer.bos_token_id)
        fast.post_processor = processors.TemplateProcessing(
            single=f'{begin[0]} $A', pair=f'{begin[0]} $A $B', special_tokens=[begin]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        bos_token=tokenizer.bos_token,
        eos_token=tokenizer.eos_token,
        unk_token=tokenizer.unk_token,
        pad_token=tokenizer.pad_token,
        additional_special_tokens=[
            token.content
            for _, token in sorted(added.items())
            if token.content not in ('<unk>', '<s>', '</s>')
        ],
        clean_up_tokenization_spaces=False,
        model_max_length=tokenizer.model_max_length,
    )
