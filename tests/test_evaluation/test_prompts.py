"""The shipped names and templates: counts as published, corrections, and what is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from internvl_mm.evaluation.imagenet_subsets import class_subset
from internvl_mm.evaluation.prompts import LANGUAGES, DatasetPrompts, read_prompts
from internvl_mm.utils.errors import ConfigError, DataError

LEAVES = sorted((Path(__file__).parents[2] / 'configs' / 'zero_shot').glob('*.py'))
NUMBERED = [str(number) for number in range(1000)]


def test_counts_are_the_published_ones() -> None:
    counts = dict(en=(80, 80), zh=(80, 78), jp=(37, 37), ar=(55, 55), it=(49, 46))
    distinct = dict(en=998, zh=999, jp=991, ar=996, it=980)
    for code in LANGUAGES:
        names, templates = (read_prompts(kind, code)['imagenet1k'] for kind in ('classnames', 'templates'))
        assert (len(templates), len(set(templates))) == counts[code]
        assert (len(names), len(set(names))) == (1000, distinct[code])
    names = read_prompts('classnames', 'en')
    expected = dict(
        flowers=102, gtsrb=43, country211=211, eurosat=10, fer2013=7, caltech101=102, pets=37, voc2007=20
    )
    assert {name: len(names[name]) for name in expected} == expected
    assert all('{c}' in template for each in read_prompts('templates', 'en').values() for template in each)


def test_corrections_tell_classes_apart_and_count_templates_once() -> None:
    right, published = (DatasetPrompts('imagenet1k', published=p).prompts(NUMBERED) for p in (False, True))
    assert len(set(right.names)) == 1000 and len(set(published.names)) == 998
    assert [n for n, (a, b) in enumerate(zip(right.names, published.names)) if a != b] == [744, 837]
    italian = [DatasetPrompts('imagenet1k', language='it', published=p).templates for p in (False, True)]
    assert list(map(len, italian)) == [46, 49]
    arabic = DatasetPrompts('imagenet1k', language='ar').templates
    assert all(template == template.strip() for template in arabic)


def test_subsets_and_names_of_the_data() -> None:
    subset = DatasetPrompts('imagenet1k', class_subset='imagenet_a').prompts(NUMBERED[:200])
    assert subset.names[0] == read_prompts('classnames', 'en')['imagenet1k'][class_subset('imagenet_a')[0]]
    names = ['aquarium_fish', 'a/b']
    for dataset, published, first in (
        ('cifar100', False, 'aquarium fish'),
        ('cifar100', True, 'aquarium_fish'),
        ('sun397', True, 'aquarium fish'),
    ):
        prompts = DatasetPrompts(dataset, published=published).prompts(names)
        assert prompts.names[0] == first
        assert prompts.names[1] == ('a b' if dataset == 'sun397' else 'a/b')
    # A slash belongs to such names, under both settings.
    for published in (False, True):
        of_aircraft = DatasetPrompts('fgvc_aircraft', published=published).prompts(['F/A-18'])
        assert of_aircraft.names == ('F/A-18',)
    # Sets without templates of their own take ImageNet's.
    assert len(DatasetPrompts('objectnet').templates) == 80
    caltech = [DatasetPrompts('caltech101').prompts(NUMBERED[:count]).names for count in (102, 101)]
    assert caltech[0][0] == 'background' and caltech[1] == caltech[0][1:]


def test_benchmarks_have_as_many_templates_as_their_configs_say() -> None:
    counted = {}
    for leaf in LEAVES:
        text = leaf.read_text('utf-8')
        said, prompts = (
            re.search(r'(\d+) templates?\b', text),
            re.search(r"DatasetPrompts, dataset='(\w+)'", text),
        )
        if said and prompts:
            code = re.search(r"language='(\w+)'", text)
            own = DatasetPrompts(prompts[1], language=code[1] if code else 'en', published=True)
            counted[leaf.stem] = (len(own.templates), int(said[1]))
    assert len(counted) >= 25
    assert {name: counts for name, counts in counted.items() if counts[0] != counts[1]} == {}
    # Without templates of its own it would take ImageNet's, unnoticed.
    assert DatasetPrompts('birdsnap').templates == ['a photo of a {c}, a type of bird.']


def test_mistakes_are_told() -> None:
    with pytest.raises(ConfigError, match="language='cn'.*Did you mean 'zh'"):
        DatasetPrompts('imagenet1k', language='cn')
    with pytest.raises(ConfigError, match="'cifar10' has no names in language='zh'"):
        DatasetPrompts('cifar10', language='zh')
    with pytest.raises(DataError, match="999 classes but 'imagenet1k' has 1000 names"):
        DatasetPrompts('imagenet1k').prompts(NUMBERED[:999])
