"""Tasks on files of real data sets, with small files of the same format made here."""

import csv
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.core import registry
from harness.core.spec import TaskSpec
from harness.tasks import aan, cifar10, data_files, data_tables, glue, imdb, swag
from harness.tasks.byte_tokens import FIRST_BYTE, PAD, SPECIAL
from harness.training.train import train

SENTENCES = ["a good film", "a bad film", "not bad", "awful", "so good", "ok", "fine by me", "never again"]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(data_files.DATA_DIR, str(tmp_path))
    return tmp_path


def text(ids: torch.Tensor) -> str:
    return "".join("|" if token == SPECIAL else chr(token - FIRST_BYTE) for token in ids.tolist()[1:] if token != PAD)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """A table in the format of its suffix, as the hub's exports have it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".tsv":
            lines = ["\t".join(map(str, one)) for one in (rows[0], *(row.values() for row in rows))]
            path.write_text("\n".join(lines) + "\n")
        case ".csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        case ".jsonl" | ".json":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case ".parquet":
            import pandas as pd

            pd.DataFrame(rows).to_parquet(path)


def archive(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("name", ["cifar10", "imdb", "aan", "swag", "glue_cola", "glue_mnli"])
def test_missing_data_is_named_before_any_training(name, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.training.trainer.Trainer.train", lambda *_, **__: pytest.fail("training started"))
    monkeypatch.delenv(data_files.DATA_DIR, raising=False)
    spec = TaskSpec(attention="sdpa", task=name, seq_len=64)
    with pytest.raises(ValueError, match=f"{name}: no data folder was given; put .* name it by --data-dir"):
        train(spec)
    monkeypatch.setenv(data_files.DATA_DIR, str(tmp_path))
    with pytest.raises(ValueError, match=rf"{name}: the data folder \(--data-dir\) has no .*; get it: .*"):
        train(spec)


@pytest.mark.parametrize("name", ["cifar10", "imdb"])
def test_a_wrong_checksum_is_named(name, folder):
    task = registry.get_task(name)
    file = {"cifar10": cifar10.ARCHIVE, "imdb": imdb.ARCHIVE}[name]
    (folder / file).write_bytes(b"something else")
    with pytest.raises(
        ValueError, match=rf"{name}: {file} has the .* checksum [0-9a-f]+, expected .*download it again"
    ):
        task.dataset("train", 3, 64, 0)


def test_cifar10_reads_the_authors_records_in_grey(folder, monkeypatch):
    rng = np.random.default_rng(0)
    images = {}
    for name in [name for names in cifar10.FILES.values() for name in names]:
        pixels = rng.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
        labels = rng.integers(0, 10, 4, dtype=np.uint8)
        images[name] = (labels, pixels)
    archive(
        folder / cifar10.ARCHIVE,
        {
            f"cifar-10-batches-bin/{name}": b"".join(
                bytes([label]) + image.tobytes() for label, image in zip(labels, pixels, strict=True)
            )
            for name, (labels, pixels) in images.items()
        },
    )
    task = cifar10.Cifar10()
    task.sha256 = data_files.checksum(folder / cifar10.ARCHIVE)
    data = task.dataset("train", 100, 1024, seed=0)
    task.check(data, 1024)
    assert len(data) == 20
    assert len(task.dataset("eval", 100, 1024, 0)) == 4
    grey = {
        (
            np.rint(np.einsum("c,cij->ij", [0.2989, 0.5870, 0.1140], image.astype(float))).astype(int) + 1
        ).tobytes(): label
        for name in cifar10.FILES["train"]
        for label, image in zip(*images[name], strict=True)
    }
    for ids, label in zip(data.input_ids, data.labels.tolist(), strict=True):
        assert grey[ids.long().numpy().reshape(32, 32).tobytes()] == label
    assert task.sources() == {cifar10.ARCHIVE: task.sha256}


def test_imdb_reads_the_authors_archive(folder):
    files = {
        f"aclImdb/{part}/{label}/{at}_7.txt": f"{part} {label} {at}".encode()
        for part in ("train", "test")
        for label in ("pos", "neg", "unsup")
        for at in range(5)
    }
    archive(folder / imdb.ARCHIVE, files | {"aclImdb/README": b"no review"})
    task = imdb.Imdb()
    task.md5 = data_files.checksum(folder / imdb.ARCHIVE, "md5")
    for split, part in (("train", "train"), ("eval", "test")):
        data = task.dataset(split, 100, 32, seed=0)
        task.check(data, 32)
        found = {(text(ids), label) for ids, label in zip(data.input_ids, data.labels.tolist(), strict=True)}
        wanted = {(f"{part} {name} {at}", label) for name, label in (("neg", 0), ("pos", 1)) for at in range(5)}
        assert found == wanted
    assert len(task.dataset("train", 3, 32, seed=0)) == 3


def test_aan_reads_long_range_arenas_pairs_and_names_a_bad_line(folder):
    for name, count in ((aan.FILES["train"], 6), (aan.FILES["eval"], 3)):
        lines = [f'{at % 2}.0\tP{at}\tQ{at}\t"first {at}"\tsecond {at}' for at in range(count)]
        (folder / name).write_text("\n".join(lines) + "\n")
    task = aan.Aan()
    data = task.dataset("train", 100, 32, seed=0)
    task.check(data, 32)
    assert data.input_ids.shape == (6, 2, 32)
    for pair, label in zip(data.input_ids, data.labels.tolist(), strict=True):
        first, second = (text(ids).split() for ids in pair)
        assert (first[0], second[0]) == ("first", "second")
        assert first[1] == second[1]
        assert int(first[1]) % 2 == label
    assert set(task.sources()) == set(aan.FILES.values())
    (folder / aan.FILES["eval"]).write_text("1.0\tP\tQ\ta\tb\n1.0\tP\tonly three\n")
    with pytest.raises(ValueError, match=r"aan: line 2 of new_aan_pairs.test.tsv has 3 columns"):
        task.dataset("eval", 3, 32, 0)


def rows_of(part: str) -> list[dict[str, Any]]:
    form = glue.FORMS[part]
    labels = [at * 0.7 for at in range(8)] if form.num_labels == 1 else [at % form.num_labels for at in range(8)]
    return [
        {column: f"{SENTENCES[at]} {number}" for number, column in enumerate(form.columns)}
        | {"label": label, "idx": at}
        for at, label in enumerate(labels)
    ]


@pytest.mark.parametrize("suffix", data_tables.SUFFIXES)
@pytest.mark.parametrize("part", ["cola", "stsb", "mnli"])
def test_glue_reads_each_format(part, suffix, folder):
    form = glue.FORMS[part]
    for stem in ("train", form.held_out):
        write(folder / "glue" / part / f"{stem}.{suffix}", rows_of(part))
    task = glue.Glue(part)
    data = task.dataset("train", 100, 40, seed=0)
    task.check(data, 40)
    found = {text(ids): label for ids, label in zip(data.input_ids, data.labels.tolist(), strict=True)}
    wanted = {"|".join(str(row[column]) for column in form.columns): row["label"] for row in rows_of(part)}
    assert found == pytest.approx(wanted)
    assert len(task.sources()) == 2
    assert len(task.dataset("eval", 3, 40, 0)) == 3


@pytest.mark.parametrize("part", list(glue.FORMS))
def test_every_part_of_glue_trains_and_scores_by_its_metric(part, folder):
    for stem in ("train", glue.FORMS[part].held_out):
        write(folder / "glue" / part / f"{stem}.jsonl", rows_of(part))
    small = {"seq_len": 40, "steps": 2, "seeds": 1, "batch": 4, "layers": 1, "hidden_size": 16}
    result = train(TaskSpec(attention="yoso_e", task=f"glue_{part}", **small))
    assert result.metric == glue.FORMS[part].metrics[0]
    assert set(result.other_scores) == set(glue.FORMS[part].metrics[1:])
    assert -1 <= result.scores[0] <= 1
    assert (result.train_examples, result.eval_examples) == (8, 8)
    assert len(result.sources) == 2


def test_a_label_out_of_range_and_a_missing_column_are_named(folder):
    write(folder / "glue/sst2/train.jsonl", [{"sentence": "good", "label": -1}])
    task = glue.Glue("sst2")
    with pytest.raises(ValueError, match=r"'glue_sst2': labels must be in \[0, 2\), got \[-1\]"):
        task.checked_dataset("train", 3, 32, 0)
    write(folder / "glue/rte/train.jsonl", [{"sentence1": "good", "label": 1}])
    with pytest.raises(ValueError, match=r"glue_rte: train.jsonl has no column \['sentence2'\]; it has \['sentence1'"):
        glue.Glue("rte").dataset("train", 3, 32, 0)


def test_a_table_that_is_none_is_named(folder):
    (folder / "glue/rte").mkdir(parents=True)
    (folder / "glue/rte/train.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match=r"glue_rte: train.parquet is no readable table of its suffix's format: .*"):
        glue.Glue("rte").dataset("train", 3, 32, 0)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_swag_makes_a_choice_of_each_ending(suffix, folder):
    rows = [
        {"sent1": f"They stand {at}.", "sent2": "She", "label": at % 4} | {f"ending{c}": f"ends {c}" for c in range(4)}
        for at in range(6)
    ]
    for stem in swag.FILES.values():
        write(folder / f"swag/{stem}.{suffix}", rows)
    task = swag.Swag()
    data = task.dataset("train", 100, 48, seed=0)
    task.check(data, 48)
    assert data.input_ids.shape == (6, 4, 48)
    for choices, label in zip(data.input_ids, data.labels.tolist(), strict=True):
        texts = [text(ids) for ids in choices]
        number = int(texts[0].split(".")[0].split()[-1])
        assert label == number % 4
        assert texts == [f"They stand {number}.|She ends {choice}" for choice in range(4)]
