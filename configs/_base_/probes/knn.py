"""k-NN voting on cached class tokens, without training: 20 neighbours as in DINO, and two other numbers beside it."""

from internvl_mm.engine.probe_runner import ProbeRunner
from internvl_mm.engine.probes import KNNProbe
from internvl_mm.models.heads import LinearClsHead
from internvl_mm.models.necks import ClsToken
from internvl_mm.models.tasks import ImageClassifier
from internvl_mm.preprocess.batch import ImageDataPreprocessor

runner_type = ProbeRunner
probe = dict(type=KNNProbe, ks=[10, 20, 100])
# The head takes no part in voting; its classes are compared with those of the data.
model = dict(
    type=ImageClassifier,
    neck=dict(type=ClsToken),
    head=dict(type=LinearClsHead, num_classes=1000),
    data_preprocessor=dict(type=ImageDataPreprocessor),
)
