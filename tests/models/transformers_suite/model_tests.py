"""transformers' own model and configuration tests on the six YOSO models, in four settings, and on transformers' YOSO.

``tests/models/test_transformers_suite.py`` runs this file in a process of its own, with the root of transformers'
source distribution on the path: ``tests`` is then transformers' package. The distribution leaves out some helpers of
its tests; what the six models need of them is set here.
"""

import sys
import unittest
from types import ModuleType

from transformers.models import yoso as transformers_yoso

import yoso

NAMES = (
    "YosoModel",
    "YosoForMaskedLM",
    "YosoForMultipleChoice",
    "YosoForQuestionAnswering",
    "YosoForSequenceClassification",
    "YosoForTokenClassification",
)
SIZES = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 36,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "num_hash": 32,
    "hash_code_len": 8,
}
BATCH, LENGTH = 3, 7
COMMON_OPTIONS = {
    "return_dict": False,
    "output_hidden_states": True,
    "dtype": "float16",
    "chunk_size_feed_forward": 5,
    "architectures": ["YosoModel"],
    "id2label": {0: "label"},
    "label2id": {"label": "0"},
    "problem_type": "regression",
}
"""Options that every configuration must keep."""


def _stand_in(name: str, **attributes: object) -> None:
    """Put a module that the source distribution leaves out in its place."""
    module = ModuleType(name)
    vars(module).update(attributes)
    sys.modules[name] = module


class _NoGeneration:
    """An encoder generates nothing."""


for _package in ("tests.utils", "tests.exporters", "tests.generation"):
    _stand_in(_package, __path__=[])
_stand_in("tests.utils.test_configuration_utils", config_common_kwargs=COMMON_OPTIONS)
_stand_in("tests.exporters.test_export", ExportTesterMixin=object)  # exports have tests of their own
_stand_in("tests.generation.test_utils", GenerationTesterMixin=_NoGeneration)

from tests.test_configuration_common import ConfigTester  # noqa: E402  after the stand-ins
from tests.test_modeling_common import ModelTesterMixin, ids_tensor, random_attention_mask  # noqa: E402


class _Sizes:
    """What ``ModelTesterMixin`` asks a model's tester for."""

    batch_size, seq_length, key_length, encoder_seq_length, decoder_seq_length = BATCH, LENGTH, LENGTH, LENGTH, LENGTH
    hidden_size, num_hidden_layers, num_attention_heads = 32, 2, 2
    num_choices, num_labels, vocab_size = 4, 3, 99
    is_training = True

    def __init__(self, make_config):
        self.get_config = make_config

    def prepare_config_and_inputs_for_common(self):
        return self.get_config(), {
            "input_ids": ids_tensor([BATCH, LENGTH], self.vocab_size),
            "attention_mask": random_attention_mask([BATCH, LENGTH]),
            "token_type_ids": ids_tensor([BATCH, LENGTH], 2),
        }


class _Tests(ModelTesterMixin):
    """The tests; a subclass says with which package and options the models are made."""

    package: ModuleType = yoso
    options: dict[str, object] = {}  # noqa: RUF012  read only

    @property
    def all_model_classes(self):
        return tuple(getattr(self.package, name) for name in NAMES)

    def _config(self):
        return self.package.YosoConfig(**SIZES, num_labels=3, **self.options)

    def setUp(self):
        self.model_tester = _Sizes(self._config)

    def test_config(self):
        ConfigTester(self, config_class=self.package.YosoConfig, hidden_size=48).run_common_tests()


class TransformersYoso(_Tests, unittest.TestCase):
    package = transformers_yoso
    options = {"use_expectation": True}  # noqa: RUF012


class YosoE(_Tests, unittest.TestCase):
    options = {"attn_implementation": "yoso_e"}  # noqa: RUF012


class Sampled(_Tests, unittest.TestCase):
    options = {"attn_implementation": "yoso"}  # noqa: RUF012


class Eager(_Tests, unittest.TestCase):
    options = {"attn_implementation": "eager"}  # noqa: RUF012


class WithConvolution(_Tests, unittest.TestCase):
    options = {"attn_implementation": "yoso_e", "conv_window": 3}  # noqa: RUF012
