"""Tasks on files of real data sets, tested with small files of the same formats."""

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
from harness.tasks import aan, cifar10, data_files, glue, imdb, swag
from harness.tasks.tokens import FIRST_BYTE, PAD, SEPARATOR
from harness.training.train import train

SENTENCES = ["a good film", "a bad film", "not bad", "awful", "so good", "ok", "fine by me", "never again"]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(data_files.DATA_DIR, str(tmp_path))
    return tmp_path


def text(ids: torch.Tensor) -> str:
    return "".join("|" if token == SEPARATOR else chr(token - FIRST_BYTE) for token in ids.tolist()[1:] if token != PAD)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a table in the format of its suffix, as the hub exports it."""
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
def test_missing_data_is_an_error_before_any_training(name, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.training.trainer.Trainer.train", lambda *_, **__: pytest.fail("training started"))
    monkeypatch.delenv(data_files.DATA_DIR, raising=False)
    spec = TaskSpec(attention="sdpa", task=name, seq_len=64)
    with pytest.raises(ValueError, match=f"{name}: no data folder was given; put .* pass it as --data-dir"):
        train(spec)
    monkeypatch.setenv(data_files.DATA_DIR, str(tmp_path))
    with pytest.raises(
        ValueError, match=rf"{name}: the data folder \(--data-dir\) does not contain .*; download it from .*"
    ):
        train(spec)


@pytest.mark.parametrize("name", ["cifar10", "imdb"])
def test_a_wrong_checksum_is_an_error(name, folder):
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
        read = {(text(ids), label) for ids, label in zip(data.input_ids, data.labels.tolist(), strict=True)}
        expected = {(f"{part} {name} {at}", label) for name, label in (("neg", 0), ("pos", 1)) for at in range(5)}
        assert read == expected
    assert len(task.dataset("train", 3, 32, seed=0)) == 3


def test_aan_reads_long_range_arenas_pairs_and_rejects_a_malformed_line(folder):
    for name, count in ((aan.FILES["train"], 6), (aan.FILES["eval"], 3)):
        lines = [f"{at % 2}.0\tP{at}\tQ{at}\tfirst {at}\tsecond {at}" for at in range(count)]
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


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_aan_reads_every_line_as_long_range_arena_does_without_quoting(folder, line_end, bom):
    texts = ['"opens', "plain", 'closes"', '"both"', 'in"side', "l\u2028s\x85\x0b", ""]
    lines = [f'1.0\tP\tQ\t{text}\t"{text}' for text in texts]
    (folder / aan.FILES["train"]).write_bytes((bom + line_end.join(lines) + line_end).encode())
    assert aan._pairs(folder / aan.FILES["train"]) == [(1, text.encode(), f'"{text}'.encode()) for text in texts]


@pytest.mark.parametrize(
    "line", ["0.7\tP\tQ\ta\tb", "\tP\tQ\ta\tb", "inf\tP\tQ\ta\tb", "x\tP\tQ\ta\tb", "1\tP\tQ\ta\tb\tc", "1\tP\tQ\ta"]
)
def test_a_wrong_line_of_aan_is_refused_with_its_number(folder, line):
    (folder / aan.FILES["train"]).write_text(f"1.0\tP\tQ\ta\tb\n{line}\n")
    with pytest.raises(ValueError, match=r"aan: line 2 of new_aan_pairs.train.tsv has \d columns, the first one"):
        aan.Aan().dataset("train", 3, 32, 0)
    (folder / aan.FILES["train"]).write_text("")
    with pytest.raises(ValueError, match="has no lines"):
        aan.Aan().dataset("train", 3, 32, 0)


def sst2(folder: Path, suffix: str, content: str | bytes) -> Any:
    path = folder / f"glue/sst2/train.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return glue.Glue("sst2").checked_dataset("train", 9, 32, 0)


GOOD = '{"sentence": "a", "label": 1}\n'
WRONG = {
    "half a label": ("jsonl", GOOD + '{"sentence": "b", "label": 0.7}', "line 2: 'label' must be a whole .*, got 0.7"),
    "half a label in a list": ("json", '[{"sentence": "b", "label": 0.7}]', "entry 1: 'label' must be a whole number"),
    "half a label in tsv": ("tsv", "sentence\tlabel\na\t1\n\nb\t0.7\n", "line 4: 'label' must be .*, got '0.7'"),
    "half a label in csv": ("csv", 'sentence,label\n"a\nb",1\nb,0.7', "line 4: 'label' must be .*, got '0.7'"),
    "a label null": ("jsonl", GOOD + '{"sentence": "b", "label": null}', "line 2: 'label' must be .*, got no value"),
    "no label": ("jsonl", GOOD + '{"sentence": "b"}', "line 2: 'label' must be .*, got no value"),
    "an empty label": ("tsv", "sentence\tlabel\nb\t\n", "line 2: 'label' must be .*, got ''"),
    "a word as label": ("csv", "sentence,label\nb,x\n", "line 2: 'label' must be .*, got 'x'"),
    "a bool as label": ("jsonl", '{"sentence": "b", "label": true}', "line 1: 'label' must be .*, got True"),
    "NaN as label": ("jsonl", '{"sentence": "b", "label": NaN}', "line 1: 'label' must be .*, got nan"),
    "a text null": ("jsonl", GOOD + '{"sentence": null, "label": 1}', "line 2: 'sentence' must be text, got no value"),
    "a number as text": ("jsonl", '{"sentence": 12, "label": 1}', "line 1: 'sentence' must be text, got 12"),
    "a list as text": ("jsonl", '{"sentence": ["a"], "label": 1}', r"line 1: 'sentence' must be text, got \['a'\]"),
    "half a character": ("jsonl", '{"sentence": "\\ud800", "label": 1}', "'sentence' must be text that is Unicode"),
    "too many fields": ("tsv", "sentence\tlabel\na\t1\nb\tc\t1\n", "line 3 has 3 fields, and line 1, .*, has 2"),
    "too few fields": ("tsv", "sentence\tlabel\na\n", "line 2 has 1 fields"),
    "an index without a name": ("csv", "sentence,label\n0,a,1\n", "line 2 has 3 fields"),
    "an open quote": ("csv", 'sentence,label\na,1\n"b,1\nc,1\n', "line 3: unexpected end of data"),
    "one name twice": ("csv", "sentence,label,label\na,1,1\n", "two columns have one name"),
    "other bytes than UTF-8": ("tsv", b"sentence\tlabel\na\t1\n\xff\t1\n", "line 3 has the byte 0xff, which"),
    "other bytes in JSON": ("jsonl", b'{"sentence": "\xff", "label": 1}', "line 1 has the byte 0xff"),
    "a cut off line": ("jsonl", GOOD + '{"sentence":', "line 2: "),
    "a deep line": ("jsonl", "[" * 100_000, "the list: "),
    "a list in lines": ("jsonl", GOOD + "[1]", "line 2 is no object"),
    "no rows": ("csv", "sentence,label\n", "has no rows"),
    "nothing": ("jsonl", "", "has no rows"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_table_is_refused_in_one_line_with_its_place(folder, wrong):
    suffix, content, message = WRONG[wrong]
    with pytest.raises(ValueError, match=rf"glue_sst2: train\.{suffix}.*{message}") as error:
        sst2(folder, suffix, content)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        ("tsv", "sentence\tlabel\n012\t1\n013\t0\n"),
        ("tsv", "\ufeffsentence\tlabel\r\n012\t1\r\n013\t0\r\n"),
        ("csv", "\ufeffsentence,label\r\n012,1\r\n013,0.0\r\n"),
        ("csv", '"sentence","label"\n"012","1.0"\n"013","0"'),
        ("json", '\ufeff[{"sentence": "012", "label": 1},\n{"sentence": "013", "label": 0.0}]'),
        ("jsonl", '{"sentence": "012", "label": "1"}\r\n\r\n{"label": 0, "sentence": "013"}\r\n'),
    ],
)
def test_text_is_what_the_file_has(folder, suffix, content):
    data = sst2(folder, suffix, content)
    assert sorted(zip(map(text, data.input_ids), data.labels.tolist(), strict=True)) == [("012", 1), ("013", 0)]


def test_words_and_quotes_of_other_formats_are_text(folder):
    texts = ["NA", "null", "None", "nan", "true", "1.50", '"open', ""]
    data = sst2(folder, "tsv", "sentence\tlabel\n" + "".join(f"{one}\t1\n" for one in texts))
    assert sorted(map(text, data.input_ids)) == sorted(texts)


def test_a_number_of_stsb_is_finite(folder):
    path = folder / "glue/stsb/train.jsonl"
    write(path, [{"sentence1": "a", "sentence2": "b", "label": 0.7}])
    assert glue.Glue("stsb").dataset("train", 3, 32, 0).labels.tolist() == pytest.approx([0.7])
    path.write_text('{"sentence1": "a", "sentence2": "b", "label": Infinity}')
    with pytest.raises(ValueError, match="line 1: 'label' must be a finite number, got inf"):
        glue.Glue("stsb").dataset("train", 3, 32, 0)


def test_parquet_is_refused_by_the_same_rules(folder):
    for value, message in ((None, "got no value"), (5, "got 5")):
        write(folder / "glue/sst2/train.parquet", [{"sentence": value, "label": 1}])
        with pytest.raises(ValueError, match=f"train.parquet: row 1: 'sentence' must be text, {message}"):
            glue.Glue("sst2").dataset("train", 3, 32, 0)


def rows_of(part: str) -> list[dict[str, Any]]:
    properties = glue.PARTS[part]
    classes = properties.num_labels
    labels = [index * 0.7 for index in range(8)] if classes == 1 else [index % classes for index in range(8)]
    return [
        {column: f"{SENTENCES[index]} {number}" for number, column in enumerate(properties.columns)}
        | {"label": label, "idx": index}
        for index, label in enumerate(labels)
    ]


@pytest.mark.parametrize("suffix", data_files.TABLE_SUFFIXES)
@pytest.mark.parametrize("part", ["cola", "stsb", "mnli"])
def test_glue_reads_each_format(part, suffix, folder):
    properties = glue.PARTS[part]
    for stem in ("train", properties.held_out):
        write(folder / "glue" / part / f"{stem}.{suffix}", rows_of(part))
    task = glue.Glue(part)
    data = task.dataset("train", 100, 40, seed=0)
    task.check(data, 40)
    read = {text(ids): label for ids, label in zip(data.input_ids, data.labels.tolist(), strict=True)}
    expected = {"|".join(str(row[column]) for column in properties.columns): row["label"] for row in rows_of(part)}
    assert read == pytest.approx(expected)
    assert len(task.sources()) == 2
    assert len(task.dataset("eval", 3, 40, 0)) == 3


@pytest.mark.parametrize("part", list(glue.PARTS))
def test_every_part_of_glue_trains_and_scores_by_its_metric(part, folder):
    for stem in ("train", glue.PARTS[part].held_out):
        write(folder / "glue" / part / f"{stem}.jsonl", rows_of(part))
    small = {"seq_len": 40, "steps": 2, "seeds": 1, "batch": 4, "layers": 1, "hidden_size": 16}
    result = train(TaskSpec(attention="yoso_e", task=f"glue_{part}", **small))
    assert result.metric == glue.PARTS[part].metrics[0]
    assert set(result.other_scores) == set(glue.PARTS[part].metrics[1:])
    assert -1 <= result.scores[0] <= 1
    assert (result.train_examples, result.eval_examples) == (8, 8)
    assert len(result.sources) == 2


def test_a_label_out_of_range_and_a_missing_column_are_errors(folder):
    write(folder / "glue/sst2/train.jsonl", [{"sentence": "good", "label": -1}])
    task = glue.Glue("sst2")
    with pytest.raises(ValueError, match=r"'glue_sst2': labels must be in \[0, 2\), got \[-1\]"):
        task.checked_dataset("train", 3, 32, 0)
    write(folder / "glue/rte/train.jsonl", [{"sentence1": "good", "label": 1}])
    with pytest.raises(ValueError, match=r"glue_rte: train.jsonl has no column \['sentence2'\]; it has \['sentence1'"):
        glue.Glue("rte").dataset("train", 3, 32, 0)


def test_an_unreadable_table_is_an_error(folder):
    (folder / "glue/rte").mkdir(parents=True)
    (folder / "glue/rte/train.parquet").write_bytes(b"no parquet")
    with pytest.raises(
        ValueError, match=r"glue_rte: train.parquet cannot be read as a table in the format of its suffix: .*"
    ):
        glue.Glue("rte").dataset("train", 3, 32, 0)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_swag_makes_one_choice_of_each_ending(suffix, folder):
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
