"""Query, key and value of a trained model, recorded while it reads real text; or of the user, from a file.

Made-up inputs lack what trained models have: in RXNMapper and MiniLM queries and keys point away from one another (a
mean cosine of -0.1 and -0.2), and the keys of a head have a large mean in common (0.4 and 0.6 of their mean length).

A recording of a packaged model (``harness.models.packaged_weights``) is made by one forward pass, in which
transformers' attention interface calls a function of this module. It is kept in the cache of YOSO's kernels, so that
only the first process that needs it loads the model. A file is one of the user's, ``harness run --inputs``.
"""

import hashlib
import json
import os
import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.core.spec import QualitySpec
from harness.models import packaged_text, packaged_weights
from harness.models.packaged_weights import PackagedModel
from yoso.build.cache import cache_dir, is_whole, locked, put

FILE = "HARNESS_INPUTS"
"""The environment variable with the path of the user's file. ``--inputs`` sets it, also for other processes."""
TENSORS = ("query", "key", "value")
"""The names of the tensors in a file."""
REPEAT_NOISE = 0.1
"""The noise of repeated tokens, as a share of the standard deviation of each feature over the recorded tokens."""
_RECORDER = "harness_recorder"
"""The name under which transformers finds the function that records."""
_FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""The dtypes that a file may have, as safetensors names them, and their bytes."""
_MOST_HEADER_BYTES = 2**20
"""Of a file's header; safetensors allows a hundred times more, which three tensors do not need."""


class BadRecording(ValueError):
    """A file is not a recording; the message names the file, what was expected, what came and what to do."""


@dataclass(frozen=True)
class Recording:
    """``query``, ``key`` and ``value`` of every layer and head, ``[layers, H, T, D]`` each, float32 on the CPU.

    Of a file the first dimension is the batch.
    """

    query: Tensor
    key: Tensor
    value: Tensor


@dataclass(frozen=True)
class RecordingFile:
    """The user's file: what its cases are called, and the sizes of its tensors."""

    name: str
    sha256: str
    batch: int
    heads: int
    seq_len: int
    head_dim: int


def unavailable(spec: QualitySpec) -> str | None:
    """Why there is no recording for a case with ``inputs="recorded"``; None if there is one."""
    if spec.recording_sha256 is not None:
        if os.environ.get(FILE):
            return None
        return f"the recording {spec.recording} is a file, and none was given: run with --inputs {spec.recording}"
    packaged = packaged_weights.MODELS.get(str(spec.recording))
    if packaged is None:
        known = ", ".join(packaged_weights.MODELS)
        return f"unknown recording {spec.recording!r}; known: {known}, or a file as --inputs"
    return packaged_weights.missing(packaged)


def inputs_of(spec: QualitySpec, noise: list[Tensor]) -> list[Tensor]:
    """q, k and v of ``spec``, ``[batch, heads, seq_len, head_dim]`` each, on the device of ``noise``.

    A shorter case than the recording gets its first tokens; of a packaged model, the model reads a text of that length.
    In a longer case the recorded tokens repeat: token i is the recorded token i modulo T, and from token T on each
    feature gets normal noise of ``REPEAT_NOISE`` times its standard deviation over the recorded tokens of its head.
    So no two tokens are equal, and a query has about ``seq_len / T`` keys that resemble the one it looked for.

    A case with fewer sequences than the recording has layers gets layers at equal distances; one with fewer heads gets
    other heads of each layer in turn, so that with 12 layers and one head each of 8 heads is there.

    Args:
        spec: a case with ``inputs="recorded"``.
        noise: standard normal tensors of that shape, one each for q, k and v.

    Raises:
        ValueError: there is no recording, or it has other sizes than the case.
    """
    reason = unavailable(spec)
    if reason is not None:
        raise ValueError(reason)
    recording = _of_spec(spec)
    layers, heads, _, head_dim = recording.query.shape
    if spec.batch > layers or spec.heads > heads or spec.head_dim != head_dim:
        raise ValueError(
            f"the recording {spec.recording} has {layers} layers (or sequences) with {heads} heads of {head_dim}, and "
            f"the case wants batch {spec.batch} and {spec.heads} heads of {spec.head_dim}: make batch and heads at "
            "most the recording's, and head_dim equal to it"
        )
    tensors = (recording.query, recording.key, recording.value)
    return [_extended(_chosen(x, spec).to(e.device), e) for x, e in zip(tensors, noise, strict=False)]


def describe(spec: QualitySpec) -> str:
    """What the inputs are, for the record: how many tokens were recorded, and how they repeat in a longer case."""
    recorded = _of_spec(spec).query.shape[2]
    words = f"inputs recorded from {spec.recording}: {min(recorded, spec.seq_len):,} tokens"
    if spec.seq_len <= recorded:
        return words
    return f"{words}, repeated up to {spec.seq_len:,} with noise of {REPEAT_NOISE} standard deviations"


def _chosen(recorded: Tensor, spec: QualitySpec) -> Tensor:
    layers, heads = recorded.shape[:2]
    rows = [
        recorded[number * layers // spec.batch, [(number * spec.heads + head) % heads for head in range(spec.heads)]]
        for number in range(spec.batch)
    ]
    return torch.stack(rows)


def _extended(recorded: Tensor, noise: Tensor) -> Tensor:
    tokens, length = recorded.shape[2], noise.shape[2]
    repeated = recorded[:, :, torch.arange(length, device=recorded.device) % tokens]
    if length > tokens:
        spread = recorded.std(2, keepdim=True, correction=0)
        repeated[:, :, tokens:] += REPEAT_NOISE * spread * noise[:, :, tokens:]
    return repeated


def _of_spec(spec: QualitySpec) -> Recording:
    if spec.recording_sha256 is not None:
        return _of_file(Path(os.environ[FILE]), spec.recording_sha256)
    packaged = packaged_weights.MODELS[str(spec.recording)]
    return of_model(packaged, max(3, min(spec.seq_len, packaged.longest)))


@lru_cache(maxsize=2)
def of_model(packaged: PackagedModel, tokens: int) -> Recording:
    """The recording of a packaged model that reads ``tokens`` tokens of its kind of text, from the cache or made now.

    Raises:
        PackageMissing: the package is not installed.
        WrongDigest: a file of the package has other bytes than the published one.
        ValueError: the model does not have so many positions.
    """
    from safetensors.torch import load_file, save_file

    folder = cache_dir() / "recordings"
    kept = folder / f"{packaged.name}-{tokens}-{_key(packaged)}.safetensors"
    if not is_whole(kept):
        recording = record(packaged_weights.load(packaged), tokens)
        with suppress(OSError):  # a cache that cannot be written only costs time
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            with locked(folder), tempfile.TemporaryDirectory(dir=folder) as own:
                made = Path(own) / kept.name
                save_file({name: getattr(recording, name).contiguous() for name in TENSORS}, made)
                put(made, kept)
        return recording
    return Recording(**load_file(kept))


def _key(packaged: PackagedModel) -> str:
    """Of everything that the recording follows from: the weights, the text, the code here, and the libraries."""
    text = packaged_text.english() if packaged.reads == "english" else "".join(packaged_text.REACTIONS)
    code = [Path(module.__file__ or "").read_bytes() for module in (packaged_weights, packaged_text)]
    parts = [packaged.weights.sha256, text, version("torch"), version("transformers")]
    digest = hashlib.sha256("\0".join(parts).encode())
    for source in (*code, Path(__file__).read_bytes()):
        digest.update(source)
    return digest.hexdigest()[:16]


def record(loaded: packaged_weights.LoadedModel, tokens: int) -> Recording:
    """What the attention of every layer receives in one forward pass over ``tokens`` tokens."""
    from torch.nn.functional import scaled_dot_product_attention
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    from yoso.transformers_attention import key_padding_mask

    received: list[tuple[Tensor, Tensor, Tensor]] = []

    def attend(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **_: Any
    ) -> tuple[Tensor, None]:
        """Softmax attention that notes its inputs; transformers wants ``[B, N, H, D]`` back."""
        del module
        received.append((query.detach().clone(), key.detach().clone(), value.detach().clone()))
        output = scaled_dot_product_attention(query, key, value, attention_mask)
        return output.transpose(1, 2).contiguous(), None

    AttentionInterface.register(_RECORDER, attend)
    AttentionMaskInterface.register(_RECORDER, key_padding_mask)
    ids, _ = loaded.sequence(tokens)
    own = loaded.model.config._attn_implementation
    loaded.model.config._attn_implementation = _RECORDER
    try:
        with torch.no_grad():
            loaded.model(input_ids=ids)
    finally:
        loaded.model.config._attn_implementation = own
    query, key, value = (torch.cat(of_layers) for of_layers in zip(*received, strict=True))
    return Recording(query, key, value)


def read_file(path: Path) -> RecordingFile:
    """The sizes of a user's file, all of which is checked: names, shapes, dtypes and numbers.

    Raises:
        BadRecording: it is not a safetensors file with finite floating-point tensors ``query``, ``key`` and ``value``
            of one shape ``[B, H, N, D]``.
    """
    content = _read(path)
    batch, heads, seq_len, head_dim = _parsed(path, content).query.shape
    return RecordingFile(path.name, hashlib.sha256(content).hexdigest(), batch, heads, seq_len, head_dim)


@lru_cache(maxsize=1)
def _of_file(path: Path, sha256: str) -> Recording:
    content = _read(path)
    actual = hashlib.sha256(content).hexdigest()
    if actual != sha256:
        raise BadRecording(
            f"{path}: expected the file that the run began with, of SHA-256 {sha256}, got {actual}; it was changed: "
            "run again with --inputs"
        )
    return _parsed(path, content)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadRecording(
            f"{path}: expected a safetensors file, got {error.strerror or error}; give the path of a file that you can "
            "read"
        ) from None


def _parsed(path: Path, content: bytes) -> Recording:
    from safetensors import SafetensorError
    from safetensors.torch import load as load_safetensors

    def refuse(expected: str, got: str, advice: str) -> BadRecording:
        return BadRecording(f"{path}: expected {expected}, got {got}; {advice}")

    names = f"the tensors {', '.join(TENSORS)}, [B, H, N, D] each"
    dtypes = _header(content, lambda got: refuse("a safetensors file", got, f"save {names} with safetensors"))
    if set(dtypes) != set(TENSORS):
        raise refuse(names, ", ".join(sorted(dtypes)) or "none", "save exactly these")
    for name, dtype in dtypes.items():
        if dtype not in _FLOATS:
            raise refuse(f"{name} of dtype {', '.join(_FLOATS)}", dtype, "save it as a floating-point tensor")
    try:
        tensors = load_safetensors(content)
    except SafetensorError as error:
        raise refuse("a whole safetensors file", str(error), "save it again") from None
    shapes = {name: list(tensors[name].shape) for name in TENSORS}
    query = shapes["query"]
    if len(query) != 4 or not all(query):
        raise refuse("query of shape [B, H, N, D], none of them 0", str(query), "save it with these four dimensions")
    for name in TENSORS[1:]:
        if shapes[name] != query:
            raise refuse(f"{name} of the shape of query, {query}", str(shapes[name]), "save all three with one shape")
    for name in TENSORS:
        tensors[name] = tensors[name].float()
        wrong = int((~tensors[name].isfinite()).sum())
        if wrong:
            raise refuse(
                f"finite numbers in {name}",
                f"{wrong} of {tensors[name].numel():,} that are NaN, infinite or beyond float32",
                "record it again",
            )
    return Recording(**tensors)


def _header(content: bytes, refuse: Callable[[str], BadRecording]) -> dict[str, str]:
    """The dtype of each tensor by name, from a safetensors header: its length in 8 bytes, then JSON."""
    if len(content) < 8:
        raise refuse(f"{len(content)} bytes")
    (length,) = struct.unpack("<Q", content[:8])
    if not 2 <= length <= min(len(content) - 8, _MOST_HEADER_BYTES):
        raise refuse(f"a file of {len(content):,} bytes without its header")
    try:
        header = json.loads(content[8 : 8 + length])
        return {str(name): str(entry["dtype"]) for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
        raise refuse("a file whose header is not that of safetensors") from None
