"""Wordings of every question and reply, in English and Chinese. Slots in braces are filled from the scene."""

from __future__ import annotations

from typing import NamedTuple


class Phrase(NamedTuple):
    """Ways to ask, and one full-sentence reply; ``{answer}`` is the short answer."""

    ask: tuple[str, ...]
    reply: str


# Prompts that ask for a short answer or a letter, as InternVL's evaluation words them (the Chinese letter prompt too).
SHORT_PROMPT = {
    'en': 'Answer the question using a single word or phrase.',
    'zh': '请用一个词或短语回答问题。',
}
CHOICE_PROMPT = {
    'en': "Answer with the option's letter from the given choices directly.",
    'zh': '请直接回答选项字母。',
}

# Which slots a kind has, its function in dialogue.py says: 'where' {name}, 'compare' {first}, {second}, {low}, {high}.
PHRASES: dict[str, dict[str, Phrase]] = {
    # one picture
    # Sorted, so that one answer is right; 'read' asks for the order in the picture.
    'which': {
        'en': Phrase(
            (
                'Which digits are in the image? List them from small to large.',
                'Name the digits you see, sorted.',
            ),
            'Sorted from small to large, the digits are {answer}.',
        ),
        'zh': Phrase(
            ('图中有哪些数字？请从小到大列出。', '请从小到大写出图中的数字。'), '从小到大依次是{answer}。'
        ),
    },
    'count': {
        'en': Phrase(
            ('How many digits are in the image?', 'Count the digits in the image.'),
            'The image shows {count}.',
        ),
        'zh': Phrase(('图中有几个数字？', '请数一数图中有多少个数字。'), '图中有{count}。'),
    },
    'where': {
        'en': Phrase(
            ('Where in the image is the {name}?', 'In which part of the image is the {name}?'),
            'The {name} is at the {answer} of the image.',
        ),
        'zh': Phrase(('{name}在图中的什么位置？', '{name}位于图片的哪个部分？'), '{name}在图片的{answer}。'),
    },
    'colour': {
        'en': Phrase(
            ('What colour is the digit {value}?', 'Which colour does the {value} have?'),
            'The {value} is {answer}.',
        ),
        'zh': Phrase(('数字{value}是什么颜色？', '{value}的颜色是什么？'), '数字{value}是{answer}。'),
    },
    'value': {
        'en': Phrase(
            ('Which digit is {colour}?', 'What is the value of the {colour} digit?'),
            'The {colour} digit is a {answer}.',
        ),
        'zh': Phrase(('{colour}的数字是几？', '哪个数字是{colour}的？'), '{colour}的数字是{answer}。'),
    },
    'read': {
        'en': Phrase(
            ('Read the digits from left to right.', 'What does the image say, read from left to right?'),
            'From left to right it reads {answer}.',
        ),
        'zh': Phrase(
            ('请从左到右读出图中的数字。', '图中的数字从左到右是什么？'), '从左到右依次是{answer}。'
        ),
    },
    'sum': {
        'en': Phrase(
            ('What is the sum of all digits in the image?', 'Add up all the digits. What do you get?'),
            '{addition} = {answer}, so the sum is {answer}.',
        ),
        'zh': Phrase(
            ('图中所有数字之和是多少？', '把图中的数字全部相加，结果是多少？'),
            '{addition} = {answer}，总和是{answer}。',
        ),
    },
    'compare': {
        'en': Phrase(
            (
                'Which digit has the greater value, the {first} one or the {second} one?',
                'Comparing values, is the {first} or the {second} digit greater?',
            ),
            '{high} is greater than {low}, so it is the {answer} one.',
        ),
        'zh': Phrase(
            ('{first}的数字和{second}的数字，哪个更大？', '比较{first}和{second}的数字，哪个数值更大？'),
            '{high}大于{low}，所以{answer}的数字更大。',
        ),
    },
    'relation': {
        'en': Phrase(
            ('Is the {first} to the left of the {second}?', 'Does the {first} stand left of the {second}?'),
            '{answer}, the {left} is to the left of the {right}.',
        ),
        'zh': Phrase(
            ('{first}在{second}的左边吗？', '{first}是不是在{second}的左侧？'),
            '{answer}，{left}在{right}的左边。',
        ),
    },
    'presence': {
        'en': Phrase(
            ('Is there a digit {value} in the image?', 'Does the image contain the digit {value}?'),
            '{answer}.',
        ),
        'zh': Phrase(('图中有数字{value}吗？', '图片里是否有数字{value}？'), '{answer}。'),
    },
    'largest': {
        'en': Phrase(
            ('What is the largest digit in the image?', 'Which value is the greatest?'),
            'The largest digit is {answer}.',
        ),
        'zh': Phrase(('图中最大的数字是几？', '哪个数字最大？'), '最大的数字是{answer}。'),
    },
    'describe': {
        'en': Phrase(('Describe the image.', 'What can you see in the image?'), '{answer}'),
        'zh': Phrase(('请描述这张图片。', '你在图中看到了什么？'), '{answer}'),
    },
    'ground': {
        'en': Phrase(
            (
                # The prompt of InternVL's evaluation on RefCOCO, whose wording its models know.
                'Please provide the bounding box coordinate of the region this sentence describes: <ref>{name}</ref>',
            ),
            '<ref>{name}</ref><box>{answer}</box>',
        ),
        'zh': Phrase(
            ('请给出这句话所描述区域的边界框坐标：<ref>{name}</ref>',), '<ref>{name}</ref><box>{answer}</box>'
        ),
    },
    # two pictures
    'pair_more': {
        'en': Phrase(
            (
                'Which image shows more digits, the first or the second?',
                'In which image are there more digits?',
            ),
            'The first image shows {first}, the second {second}: {answer} shows more.',
        ),
        'zh': Phrase(
            ('第一张和第二张图片，哪张数字更多？', '哪张图片里的数字更多？'),
            '第一张有{first}，第二张有{second}，{answer}更多。',
        ),
    },
    'pair_common': {
        'en': Phrase(
            ('Which digits appear in both images?', 'Which digits do the two images share?'),
            'Digits in both images: {answer}.',
        ),
        'zh': Phrase(
            ('哪些数字在两张图片中都出现了？', '两张图片有哪些相同的数字？'),
            '两张图片中都有的数字：{answer}。',
        ),
    },
    'pair_total': {
        'en': Phrase(
            ('How many digits do the two images show together?', 'Count the digits of both images.'),
            '{addition} = {answer}, so there are {answer} digits.',
        ),
        'zh': Phrase(
            ('两张图片一共有多少个数字？', '请数出两张图片中数字的总个数。'),
            '{addition} = {answer}，一共有{answer}个数字。',
        ),
    },
    'pair_sum': {
        'en': Phrase(
            ('In which image is the sum of the digits greater, the first or the second?',),
            'The sums are {first} and {second}, so {answer} has the greater sum.',
        ),
        'zh': Phrase(
            ('哪张图片的数字之和更大，第一张还是第二张？',),
            '两个总和分别是{first}和{second}，{answer}的总和更大。',
        ),
    },
    # video
    'video_value': {
        'en': Phrase(
            ('Which digit moves in the video?', 'What is the value of the moving digit?'),
            'The {answer} moves.',
        ),
        'zh': Phrase(('视频中哪个数字在移动？', '移动的数字是几？'), '移动的数字是{answer}。'),
    },
    'video_direction': {
        'en': Phrase(
            ('In which direction does the digit move?', 'Which way does it move?'),
            'The {name} moves {answer}.',
        ),
        'zh': Phrase(('数字朝哪个方向移动？', '它往哪边移动？'), '{name}向{answer}移动。'),
    },
    'video_colour': {
        'en': Phrase(('What colour is the moving digit?',), 'The moving digit is {answer}.'),
        'zh': Phrase(('移动的数字是什么颜色？',), '移动的数字是{answer}。'),
    },
    # Its reply has {count}, from the same fact as 'count' of a picture.
    'video_count': {
        'en': Phrase(('How many digits are in the video?',), 'The video shows {count}.'),
        'zh': Phrase(('视频中有几个数字？',), '视频中有{count}。'),
    },
    'video_end': {
        'en': Phrase(
            ('Where is the moving digit at the end?',), 'At the end it is at the {answer} of the image.'
        ),
        'zh': Phrase(('移动的数字最后在什么位置？',), '它最后在画面的{answer}。'),
    },
    # no picture
    'text_add': {
        'en': Phrase(('What is {addition}?', 'Calculate {addition}.'), '{addition} = {answer}.'),
        'zh': Phrase(('{addition} 等于多少？', '请计算 {addition}。'), '{addition} = {answer}。'),
    },
    'text_sort': {
        'en': Phrase(
            ('Sort these digits from small to large: {values}.',), 'Sorted from small to large: {answer}.'
        ),
        'zh': Phrase(('请把这些数字从小到大排序：{values}。',), '从小到大：{answer}。'),
    },
    'text_largest': {
        'en': Phrase(
            ('Which of these digits is the largest: {values}?',), 'The largest of them is {answer}.'
        ),
        'zh': Phrase(('这些数字中哪个最大：{values}？',), '其中最大的是{answer}。'),
    },
    'text_reverse': {
        'en': Phrase(('Say these digits in reverse order: {values}.',), 'In reverse order: {answer}.'),
        'zh': Phrase(('请把这些数字倒序说出来：{values}。',), '倒序是：{answer}。'),
    },
}
