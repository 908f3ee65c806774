"""The configuration of a YOSO model: transformers' fields and defaults, with every value checked."""

import os
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from yoso.models.checkpoint import record_origin, save_code
from yoso.ops.arguments import MAX_HASH_CODE_LEN, check_normalization
from yoso.ops.estimators import check_estimator
from yoso.ops.hashing import HASH_FAMILIES


class YosoConfig(PreTrainedConfig):
    """Settings of ``YosoModel`` and its task heads; a ``config.json`` of transformers' YOSO loads unchanged.

    Args:
        vocab_size: number of token ids.
        hidden_size: width of the model; a multiple of ``num_attention_heads``.
        num_hidden_layers: number of layers.
        num_attention_heads: number of attention heads.
        intermediate_size: width of the feed-forward layers.
        hidden_act: name of the activation in transformers.
        hidden_dropout_prob: dropout of embeddings, layer outputs and task heads.
        attention_probs_dropout_prob: dropout of the attention weights in training. It applies to attentions that form
            the weights or have their own dropout (``"eager"``, ``"sdpa"``, ...). ``"yoso"`` and ``"yoso_e"`` never form
            the weights and cannot drop them; in training they log that once. transformers' YOSO ignores it silently.
        max_position_embeddings: longest sequence, in tokens.
        type_vocab_size: number of token types.
        initializer_range: standard deviation of new weights.
        layer_norm_eps: epsilon of the layer norms.
        use_expectation: the default attention: ``"yoso_e"`` if True, ``"yoso"`` (sampling) if False. An explicit
            ``attn_implementation`` takes precedence.
        hash_code_len: tau, the bits of a hash code, 1 to 16; also the exponent of YOSO-E.
        num_hash: m, the number of hashes of YOSO sampling.
        conv_window: width of the depthwise convolution over the values, in tokens, odd; None: no convolution.
        use_fast_hash: if ``hash_family`` is None: True selects ``"hadamard"``, False ``"gaussian"``.
        lsh_backward: True: sampling estimates its gradients from the collisions. False: it computes them over all
            pairs.
        hash_family: ``"gaussian"``, ``"hadamard"`` or ``"hadamard_authors"`` (see ``yoso.ops.hashing``); None follows
            ``use_fast_hash``. transformers does not have this field.
        normalization: ``"l2"``, as transformers has it, scales every weighted sum of values to length 1; ``"sum"``
            divides it by the sum of its weights. ``yoso.ops.normalization`` has both definitions. transformers does
            not have this field.
        norm_floor: at least 0; above 0, rows whose weights nearly vanish become short, where with 0 they become noise
            of length 1. transformers does not have this field.
        estimator: how sampling estimates the weights, ``"collisions"`` or ``"rescored"`` (see
            ``yoso.attention.yoso_sampling``). transformers does not have this field and the next three.
        shared_keys: random keys per head that the rescored estimator adds to every query's, or all of a shorter
            sequence's.
        rescore_floor: smallest probability by which it divides, 0 to 1.
        rescore_rest: whether it gives the weight that the floor takes away to the mean of the values.
        pad_token_id: the padding token; its embedding stays zero.
        bos_token_id: the first token of a sequence.
        eos_token_id: the last token of a sequence.
        add_cross_attention: must be False, like ``is_decoder``: YOSO is an encoder.
        tie_word_embeddings: share the word embeddings with the decoder of the masked language model.
        **kwargs: transformers' common fields, and unknown fields of old checkpoints, which are kept.

    Raises:
        ValueError: an invalid value; the message names the field and says what to do.
    """

    model_type = "yoso"
    _saves_code = False

    def __init__(
        self,
        vocab_size: int = 50265,
        hidden_size: int = 768,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        intermediate_size: int = 3072,
        hidden_act: str = "gelu",
        hidden_dropout_prob: float = 0.1,
        attention_probs_dropout_prob: float = 0.1,
        max_position_embeddings: int = 4096,
        type_vocab_size: int = 1,
        initializer_range: float = 0.02,
        layer_norm_eps: float = 1e-12,
        use_expectation: bool = True,
        hash_code_len: int = 9,
        num_hash: int = 64,
        conv_window: int | None = None,
        use_fast_hash: bool = True,
        lsh_backward: bool = True,
        hash_family: str | None = None,
        normalization: str = "l2",
        norm_floor: float = 0.0,
        estimator: str = "collisions",
        shared_keys: int = 64,
        rescore_floor: float = 0.2,
        rescore_rest: bool = True,
        pad_token_id: int | None = 1,
        bos_token_id: int | None = 0,
        eos_token_id: int | list[int] | None = 2,
        add_cross_attention: bool = False,
        tie_word_embeddings: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.hidden_act = hidden_act
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self.max_position_embeddings = max_position_embeddings
        self.type_vocab_size = type_vocab_size
        self.initializer_range = initializer_range
        self.layer_norm_eps = layer_norm_eps
        self.use_expectation = use_expectation
        self.hash_code_len = hash_code_len
        self.num_hash = num_hash
        self.conv_window = conv_window
        self.use_fast_hash = use_fast_hash
        self.lsh_backward = lsh_backward
        self.hash_family = hash_family
        self.normalization = normalization
        self.norm_floor = norm_floor
        self.estimator = estimator
        self.shared_keys = shared_keys
        self.rescore_floor = rescore_floor
        self.rescore_rest = rescore_rest
        self.pad_token_id = pad_token_id
        self.bos_token_id = bos_token_id
        self.eos_token_id = eos_token_id
        self.add_cross_attention = add_cross_attention
        self.tie_word_embeddings = tie_word_embeddings
        self.check()

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Save ``config.json``, with two fields that say what loads it and which attention the model had."""
        record_origin(self)
        if self._saves_code:
            save_code(self, Path(save_directory))
        super().save_pretrained(save_directory, *args, **kwargs)

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = "AutoConfig") -> None:
        """From now on every saved checkpoint has what ``trust_remote_code=True`` needs, for all Auto classes.

        That is a file which imports the classes from this package; it must be installed where they are loaded.
        """
        del auto_class
        YosoConfig._saves_code = True

    @property
    def output_attentions(self) -> bool | None:
        """Whether the models return attention weights; YOSO's own attentions do, and transformers' "eager"."""
        return self._output_attentions

    @output_attentions.setter
    def output_attentions(self, value: bool | None) -> None:
        if value and self._attn_implementation in (None, "yoso", "yoso_e"):
            self._output_attentions = value  # transformers allows it for "eager" only, and would change None to that
        else:
            PreTrainedConfig.output_attentions.fset(self, value)  # type: ignore[attr-defined]  # mypy: not a property

    @property
    def resolved_hash_family(self) -> str:
        """The hash family that is used: ``hash_family``, or where it is None the one of ``use_fast_hash``."""
        return self.hash_family or ("hadamard" if self.use_fast_hash else "gaussian")

    def check(self) -> None:
        """Check every field; called at construction and again by the model, because fields can be set in between.

        Raises:
            ValueError: as for the class.
        """
        for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"):
            self._check_positive(name)
        for name in ("max_position_embeddings", "type_vocab_size", "num_hash"):
            self._check_positive(name)
        self._check_positive("hash_code_len", at_most=MAX_HASH_CODE_LEN)
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size: expected a multiple of num_attention_heads ({self.num_attention_heads}), "
                f"got {self.hidden_size}; every head has the same width"
            )
        if self.conv_window is not None:
            self._check_positive("conv_window")
            if self.conv_window % 2 == 0:
                raise ValueError(
                    f"conv_window: expected an odd number of tokens or None, got {self.conv_window}; an even window "
                    "has no middle token, so its output is one token longer than the attention's; use "
                    f"{self.conv_window - 1} or {self.conv_window + 1}"
                )
        if self.hash_family is not None and self.hash_family not in HASH_FAMILIES:
            raise ValueError(
                f"hash_family: expected one of {', '.join(HASH_FAMILIES)}, or None to follow use_fast_hash; "
                f"got {self.hash_family!r}"
            )
        check_normalization(self.normalization, self.norm_floor)
        check_estimator(self.estimator, self.rescore_floor)
        self._check_positive("shared_keys")
        for name in ("is_decoder", "add_cross_attention"):
            if getattr(self, name, False):
                raise ValueError(f"{name}: expected False, got True; YOSO is a bidirectional encoder, it cannot decode")

    def _check_positive(self, name: str, at_most: int | None = None) -> None:
        value = getattr(self, name)
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        if not is_integer or value < 1 or (at_most is not None and value > at_most):
            expected = "an integer of at least 1" if at_most is None else f"an integer from 1 to {at_most}"
            raise ValueError(f"{name}: expected {expected}, got {value!r}")
