"""Whole configs: every kind of mistake is found, told with a hint, and told together."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.optim import CosineAnnealingLR, StepLR
from mmengine.optim.scheduler.lr_scheduler import CosineRestartLR

from internvl_mm.data.datasets import ImageFolderDataset
from internvl_mm.engine.config import check_config, load_config
from internvl_mm.engine.config.checking import Purpose, find_part, resolve
from internvl_mm.engine.optim import CosineAfterSteps, LayerDecay
from internvl_mm.models.necks import ClsToken
from internvl_mm.utils.errors import ConfigError
from tests.mutations import assert_told, mutations

CONFIGS = Path(__file__).parents[2] / 'data' / 'configs'


def problems(*options: str, config: str = 'digits.py', purpose: Purpose = 'read') -> list[str]:
    """What the checker says of a test config with options, one line per problem."""
    cfg = load_config(str(CONFIGS / config), options)
    try:
        check_config(cfg, purpose=purpose)
    except ConfigError as error:
        return str(error).split('\n  - ')[1:]
    return []


def test_good_configs_pass() -> None:
    assert problems() == []
    assert problems(purpose='train') == []
    assert problems(purpose='test') == []
    assert problems(config='model_only.py') == []


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        (
            'modle.x=1',
            "begin with an underscore). Did you mean 'model'?",
        ),
        (
            'model.backbone.hidden_sise=3',
            "model.backbone.hidden_sise: not an argument of InternViT. Did you mean 'hidden_size'?",
        ),
        ('model.head.zzz=3', 'Allowed: eps, norm, num_classes'),
        (
            'model.backbone.hidden_size=wide',
            "model.backbone.hidden_size: 'wide' (str) is not allowed; allowed: int.",
        ),
        ('model.backbone.frozen=al', "Did you mean 'all'?"),
        (
            'model.neck.type=ClsTokenn',
            "model.neck.type: no part is called 'ClsTokenn'. Did you mean 'ClsToken'?",
        ),
        ('model.neck.type=3', 'model.neck.type: 3 is neither a class nor a function'),
        ('model.neck=3', 'model.neck: 3 (int) is not allowed; allowed: dict(type=<a Module>, ...)'),
        ('optim_wrapper.optimizer.lrr=1', "not an argument of AdamW. Did you mean 'lr'?"),
        ('optim_wrapper.optimizer.type=ClsToken', 'dict(type=<a Optimizer>, ...) is needed'),
        ('optim_wrapper.clip_grad.max_nrm=1', "Did you mean 'max_norm'?"),
        ('optim_wrapper.clip_grad.max_norm=-1', 'clip_grad.max_norm: -1 is out of bounds'),
        ('optim_wrapper.clip_grad.max_norm=0', 'clip_grad.max_norm: 0 is out of bounds'),
        ('optim_wrapper.clip_grad.type=by_value', "clip_grad.type: 'by_value' (str) is not allowed"),
        ('optim_wrapper.clip_grad.type=value', 'max_norm: not an argument of clip_grad_value_'),
        ('optim_wrapper.construct=1', "Did you mean 'constructor'?"),
        ('param_scheduler.0.endd=3', 'param_scheduler.0.endd: not an argument of LinearLR'),
        ('train_dataloader.batch_sise=3', "not an argument of DataLoader. Did you mean 'batch_size'?"),
        ('train_dataloader.persistent_workers=True', 'True is for worker processes, and num_workers is 0'),
        ('train_dataloader.prefetch_factor=4', 'prefetch_factor: 4 is for worker processes'),
        ('train_dataloader.batch_size=0', 'train_dataloader.batch_size: 0, and the least is 1'),
        (
            'benchmarks.digits.dataloader.num_workers=-1',
            'benchmarks.digits.dataloader.num_workers: -1, and the least is 0',
        ),
        ('randomness.seed=-1', 'randomness.seed: -1, and the least is 0'),
        ('randomness.seed=4294967296', 'randomness.seed: 4294967296, and the most is 4294967295'),
        ('optim_wrapper.accumulative_counts=0', 'accumulative_counts: 0, and the least is 1'),
        ('auto_scale_lr.base_batch_size=0', 'auto_scale_lr.base_batch_size: 0, and the least is 1'),
        ('optim_wrapper.optimizer.lr=-1', 'optim_wrapper.optimizer.lr: -1, and the least is 0'),
        ('optim_wrapper.optimizer.lr=nan', 'optim_wrapper.optimizer.lr: nan, and the least is 0'),
        ('optim_wrapper.optimizer.weight_decay=-1', 'optimizer.weight_decay: -1, and the least is 0'),
        ('optim_wrapper.optimizer.eps=-1', 'optimizer.eps: -1, and the least is 0'),
        (
            'optim_wrapper.optimizer.betas=(0.9,2)',
            'optim_wrapper.optimizer.betas.1: 2 is out of bounds: Input should be less than 1',
        ),
        (
            'optim_wrapper.optimizer.betas=(-1,0.9)',
            'optim_wrapper.optimizer.betas.0: -1 is out of bounds: Input should be greater than or equal to 0',
        ),
        ('train_dataloader.dataset.split=tran', "Did you mean 'train'?"),
        ('train_dataloader.dataset.nam=x', "Did you mean 'name'?"),  # an argument of the parent class
        ('train_dataloader.dataset.on_error=skp', "allowed: 'fail', 'skip', 'replace'. Did you mean 'skip'?"),
        ('train_cfg.max_epoch=3', "Did you mean 'max_epochs'?"),
        (
            'benchmarks.digits.metric=3',
            "benchmarks.digits.metric: not an argument of Benchmark. Did you mean 'metrics'?",
        ),
        ('benchmarks.digits.metrics.0.topk=a', 'benchmarks.digits.metrics.0.topk'),
        ('val_benchmarks=[digitz]', "there is no benchmark 'digitz' in benchmarks. Did you mean 'digits'?"),
        ('test_benchmarks=[in1k]', "there is no benchmark 'in1k' in benchmarks. Allowed: digits"),
        ('default_hooks.logger.interva=1', "not an argument of LoggerHook. Did you mean 'interval'?"),
        ('default_hooks.logger.priority=[1]', 'default_hooks.logger.priority'),
        ('default_hooks.logger.priority=VERY_LWO', "Did you mean 'VERY_LOW'?"),
        ('default_hooks.logger.priority=101', 'default_hooks.logger.priority'),
        ('default_hooks.logger.interval=0', 'default_hooks.logger.interval: 0, and the least is 1'),
        ('log_processor.window_size=0', 'log_processor.window_size: 0, and the least is 1'),
        ('env_cfg.mp_cfg.mp_start_method=frk', "Did you mean 'fork'?"),
        ('env_cfg.dist_cfg.backend=ncl', "Did you mean 'nccl'?"),
        ('env_cfg.dist_cfg.timeot=3', "Did you mean 'timeout'?"),
        ('env_cfg.dist_cfg.timeout=-1', 'env_cfg.dist_cfg.timeout: -1, and the least is 1'),
        ('default_hooks.logger=3', 'default_hooks.logger: 3 (int) is not allowed'),
        ('randomness.sed=3', "Did you mean 'seed'?"),
        ('env_cfg.cudnn_benchmar=True', "Did you mean 'cudnn_benchmark'?"),
        ('log_level=LOUD', "log_level: 'LOUD' (str) is not allowed; allowed: 'DEBUG', 'INFO', 'WARNING'"),
        (
            'data_preprocessor=3',
            'data_preprocessor: 3 (int) is not allowed; allowed: dict(type=<a Module>, ...)',
        ),
        ('train_cfg.max_epochs=0', 'train_cfg.max_epochs: 0 is out of bounds'),
        ('train_cfg.val_interval=0', 'train_cfg.val_interval: 0 is out of bounds'),
        ('model.data_preprocessor.mean=[a,b,c]', 'model.data_preprocessor.mean'),
    ],
)
def test_one_mistake(option: str, message: str) -> None:
    found = problems(option)
    assert len(found) >= 1
    assert any(message in line for line in found), found
    assert all(option.partition('=')[0].split('.')[0] in line for line in found)


@pytest.mark.parametrize(
    ('schedule', 'message'),
    [
        (dict(type=StepLR, step_size=0), 'param_scheduler.0.step_size: 0, and the least is 1'),
        (dict(type=CosineAnnealingLR, T_max=0), 'param_scheduler.0.T_max: 0, and the least is 1'),
        (
            dict(type=CosineRestartLR, periods=[3, 0], eta_min=0),
            'param_scheduler.0.periods: 0, and the least is 1',
        ),
    ],
)
def test_lengths_that_schedules_divide_by(schedule: dict, message: str) -> None:
    cfg = load_config(str(CONFIGS / 'digits.py'))
    cfg.param_scheduler = [schedule]
    with pytest.raises(ConfigError, match=message):
        check_config(cfg)


@pytest.mark.parametrize('kind', ['Muon', 'SGD'])
def test_ranges_of_other_optimisers(kind: str) -> None:
    given = (f'optim_wrapper.optimizer.type={kind}', 'optim_wrapper.optimizer.momentum=-1')
    assert 'optim_wrapper.optimizer.momentum: -1, and the least is 0' in problems(*given)[-1]


def test_muon_has_the_betas_of_adamw() -> None:
    (told,) = problems(
        'optim_wrapper.optimizer.type=internvl_mm.engine.muon.Muon', 'optim_wrapper.optimizer.betas=(0.9,2)'
    )
    assert 'betas.1: 2 is out of bounds' in told


def test_parameter_groups() -> None:
    assert problems('optim_wrapper.paramwise_cfg.bias_decay_mult=0') == []
    assert "Did you mean 'norm_decay_mult'?" in problems('optim_wrapper.paramwise_cfg.norm_decay_mul=0')[0]
    decay = f'optim_wrapper.constructor={LayerDecay.__name__}'
    assert problems(decay, 'optim_wrapper.paramwise_cfg.decay_rate=0.5') == []
    assert (
        'LayerDecay takes dict(decay_rate=...)' in problems(decay, 'optim_wrapper.paramwise_cfg.decay=0.5')[0]
    )
    assert "no part is called 'LayerDecai'" in problems('optim_wrapper.constructor=LayerDecai')[0]


def test_missing_arguments() -> None:
    cfg = load_config(str(CONFIGS / 'digits.py'))
    del cfg.model['head']['num_classes'], cfg.model['neck'], cfg.train_dataloader['dataset']
    with pytest.raises(ConfigError) as error:
        check_config(cfg)
    told = str(error.value)
    assert 'model.head.num_classes: missing, and LinearClsHead needs it' in told
    assert 'model.neck: missing, and ImageClassifier needs it' in told
    assert 'train_dataloader.dataset: missing' in told
    assert 'model.head.in_dim' not in told  # the classifier fills it in


def test_all_mistakes_are_told_at_once() -> None:
    assert len(problems('modle.x=1', 'model.head.zzz=3', 'randomness.sed=3', 'log_level=3')) == 4


def test_purpose_decides_what_must_be_there(tmp_path: Path) -> None:
    assert any(
        'train_dataloader: missing' in line for line in problems(config='model_only.py', purpose='train')
    )
    assert any('benchmarks: missing' in line for line in problems(config='model_only.py', purpose='test'))
    weights = f'model.backbone.pretrained={tmp_path}/vit'
    assert problems(weights) == []
    assert 'does not exist' in problems(weights, purpose='train')[0]


def test_files_of_benchmarks_that_do_not_run_are_not_needed(tmp_path: Path) -> None:
    cfg = load_config(str(CONFIGS / 'digits.py'))
    cfg.benchmarks.digits.dataloader.dataset = dict(type=ImageFolderDataset, root=f'{tmp_path}/nowhere')
    check_config(cfg, purpose='read')
    with pytest.raises(ConfigError, match='benchmarks.digits.dataloader.dataset.root: .*does not exist'):
        check_config(cfg, purpose='train')
    cfg.val_benchmarks = []
    check_config(cfg, purpose='train')
    cfg.benchmarks.digits.dataloader.dataset.root = 3  # a mistake nevertheless
    with pytest.raises(ConfigError, match=r'root: 3 \(int\) is not allowed; allowed: str'):
        check_config(cfg, purpose='train')


def test_class_counts_must_agree() -> None:
    from internvl_mm.engine.config.checking import _class_count_problems

    head = dict(head=dict(num_classes=10))
    loader = dict(dataset=dict(num_classes=1000))
    subset = dict(v=dict(dataloader=loader, metrics=[dict(type=ClsToken, class_subset='imagenet_a')]))
    found = list(_class_count_problems(dict(model=head, train_dataloader=loader)))
    assert 'but model.head.num_classes=10: head and data must agree' in str(found[0])
    assert not list(_class_count_problems(dict(model=head, benchmarks=subset)))
    assert not list(
        _class_count_problems(dict(model=dict(head=dict(num_classes=0)), train_dataloader=loader))
    )


class Checked:
    """A part with rules between its arguments."""

    def __init__(self, low: int = 0, high: int = 1):
        pass

    @classmethod
    def check_config(cls, low: int = 0, high: int = 1) -> list[str]:
        return [f'low={low} is not below high={high}'] if low >= high else []


def test_parts_check_their_own_arguments() -> None:
    def with_hook(**arguments: Any) -> Config:
        cfg = load_config(str(CONFIGS / 'model_only.py'))
        cfg.log_processor = dict(custom_cfg=[dict(type=Checked, **arguments)])
        return cfg

    check_config(with_hook(low=0), purpose='read')
    with pytest.raises(ConfigError, match='log_processor.custom_cfg.0: low=3 is not below high=1'):
        check_config(with_hook(low=3), purpose='read')
    with pytest.raises(
        ConfigError, match='not an argument of Checked'
    ):  # and the part's own check is not asked
        check_config(with_hook(low=3, lo=1), purpose='read')


def test_parts_by_name() -> None:
    assert find_part('ClsToken') is ClsToken
    assert find_part('CheckpointHook') is not None  # from the parent registry
    assert find_part('NoSuchPart') is None


@pytest.mark.parametrize('config', ['digits.py', 'model_only.py'])
def test_random_mistakes_are_told(config: str) -> None:
    settings = resolve(load_config(str(CONFIGS / config))._to_lazy_dict())
    for mistake in mutations(settings, random.Random(0), 200):
        assert_told(mistake)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(img_pth='images'), "data_prefix.img_pth: not an argument of Folders. Did you mean 'img_path'?"),
        (dict(classes=4), 'metainfo.classes: 4 (int) is not allowed'),
        (dict(scael=1), "pipeline.2.scael: not an argument of RandomResize. Did you mean 'scale'?"),
        (
            dict(keep_rato=1),
            "pipeline.2.keep_rato: not an argument of RandomResize. Did you mean 'keep_ratio'?",
        ),
        (dict(chanels=8), "decode_head.chanels: not an argument of UPerHead. Did you mean 'channels'?"),
        (dict(typ='BN'), "decode_head.norm_cfg: no 'type' in it: write dict(type=<class>, ...)"),
        (dict(in_chanels=8), 'backbone.in_chanels: not an argument of InternViT.'),
        (dict(std=1.0, mean=['red']), 'data_preprocessor.mean.0'),
    ],
)
def test_mistakes_inside_parts_of_mmseg(change: dict[str, Any], message: str) -> None:
    cfg = load_config('segmentation/upernet_frozen_intern_vit_6b_448px_v2_5_coco_stuff_504.py')
    settings = resolve(cfg._to_lazy_dict())
    data, model = settings['train_dataloader']['dataset']['dataset'], settings['model']
    owners = dict(
        img_pth=data['data_prefix'],
        classes=data.setdefault('metainfo', {}),
        scael=data['pipeline'][2],
        keep_rato=data['pipeline'][2],
        chanels=model['decode_head'],
        in_chanels=model['backbone'],
        std=model['data_preprocessor'],
    )
    if 'typ' in change:
        model['decode_head']['norm_cfg'] = change
    else:
        owners[next(iter(change))].update(change)
    with pytest.raises(ConfigError) as told:
        check_config(Config(settings), purpose='read')
    assert message in str(told.value)


def test_a_warm_up_longer_than_the_training_is_told_before_it_starts() -> None:
    cfg = load_config('quickstart/finetune_intern_vit_tiny_digits', ['param_scheduler.0.end=1'])
    with pytest.raises(ConfigError, match='param_scheduler.0: warmup=3 must lie between 0 and end=1'):
        check_config(cfg)
    # In steps, however many an epoch has.
    assert CosineAfterSteps.check_config(warmup=100, end=1) == []
