"""Captions to words as caption metrics count them, without Java.

The published numbers are of Stanford's Penn Treebank tokeniser (a Java program), whose marks of punctuation are then
dropped. The rules here are those of it that captions meet; :func:`~internvl_mm.evaluation.caption_words.split_caption`
says where they end.
"""

from __future__ import annotations

import re
import unicodedata

# Han, kana and Hangul: written without spaces, each sign counts as a word, as usual for Chinese captions.
_SIGN = r'[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]'
# Vowel signs of Hindi or Thai, accents no letter is made with: parts of the letter before them, not of \w.
_MARKS = ''.join(sign for sign in map(chr, range(0x300, 0x10000)) if unicodedata.category(sign)[0] == 'M')
_LETTERS = rf'(?:[^\W_][{_MARKS}]*)+'
_WORD = re.compile(
    rf"""
    {_SIGN}
    | (?:[a-z]\.){{2,}}                    # u.s., e.g.: full stops belong to the word
    | (?:mr|mrs|ms|dr|st|jr|sr|vs|ave|etc)\.(?=\s*\S)  # before another word
    | \d+(?:[.,:/]\d+)*              # 1,000 and 3.5 and 12:30 and 1/2
      (?:[a-z]+(?:-\w+)*|(?:-\w+)+)?       # 3d, 80s, 2-year-old
    | [^\W\d_]+?(?=n't\b|'(?:s|m|d|re|ve|ll)\b)  # do|n't, man|'s
    | n't\b | '(?:s|m|d|re|ve|ll)\b | '\d0s\b
    | (?:can)(?=not\b) | (?:gon|wan)(?=na\b) | (?:got)(?=ta\b)  # as one word they are two
    | {_LETTERS}(?:[-'’.&/@]{_LETTERS})*     # t-shirt, o'clock, b&w, example.com
    | _+ | [^\w\s]                         # any other sign
    """,
    re.VERBOSE,
)
# What pycocoevalcap drops after tokenising, brackets under their Treebank names there.
_PUNCTUATION = frozenset(
    '\' ` ( ) { } . ? ! , : - -- ... ; " “ ” ‘ ’ … – — 。 ， 、 ； ： ？ ！ （ ） 《 》 「 」 『 』 【 】'.split()
)


def split_caption(text: str) -> list[str]:
    """Lower-case words of a caption, without punctuation.

    Like the Treebank's: contractions are two words (``do n't``, ``man 's``), words with hyphens are one, numbers keep
    their signs. Unlike it: few abbreviations (``mon.-fri.``); brackets are no words, which pycocoevalcap counts as
    ``-lrb-`` and ``-rrb-``; signs of Chinese, Japanese and Korean are words, which it leaves together. Counted: 3 of 50
    sentences written to be difficult differ (2 for their brackets), and none of 96 English captions of DigitScenes.

    Args:
        text: One sentence.
    """
    return [
        word for word in _WORD.findall(unicodedata.normalize('NFC', text.lower())) if word not in _PUNCTUATION
    ]
