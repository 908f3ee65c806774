"""The task heads: equal to those of transformers, with labels, training, pipelines and checkpoints."""

import pytest
import torch
from model_pairs import HEADS, SMALL, largest_difference, make_pair, make_yoso, random_sizes, tokens
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast, Trainer, TrainingArguments, pipeline
from transformers.models import yoso as transformers_yoso

import yoso

TASK_HEADS = HEADS[1:]


def example(head, sizes, seed=0, length=18):
    """Input ids and labels that fit the head."""
    choices = 3 if head == "ForMultipleChoice" else None
    ids = tokens(2, length, vocab_size=sizes["vocab_size"], seed=seed, choices=choices)
    num_labels = sizes.get("num_labels", 2)
    labels = {
        "ForMaskedLM": {"labels": torch.where(ids % 3 == 0, ids, -100)},
        "ForSequenceClassification": {"labels": ids[:, 0] % num_labels},
        "ForMultipleChoice": {"labels": torch.tensor([2, 0])},
        "ForTokenClassification": {"labels": ids % num_labels},
        # 99 is beyond the sequence and must not count in the loss.
        "ForQuestionAnswering": {"start_positions": torch.tensor([3, 99]), "end_positions": torch.tensor([[5], [17]])},
    }[head]
    return {"input_ids": ids, **labels}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("head", TASK_HEADS)
def test_outputs_and_losses_equal_transformers(head, seed):
    sizes = random_sizes(seed)
    yoso_model, transformers_model = make_pair(head, seed=seed, **sizes)
    assert list(yoso_model.state_dict()) == list(transformers_model.state_dict())
    arguments = example(head, sizes, seed)
    with torch.no_grad():
        a, b = (model(**arguments, output_hidden_states=True) for model in (yoso_model, transformers_model))
    assert type(a) is type(b)
    assert list(a) == list(b)
    for name in ("loss", "logits", "start_logits", "end_logits"):
        if name in b:
            assert largest_difference(a[name], b[name]) < 1e-5 * max(1.0, b[name].abs().max().item() / 10), name


@pytest.mark.parametrize("head", TASK_HEADS)
def test_return_dict_false_gives_the_tuple_of_transformers(head):
    yoso_model, transformers_model = make_pair(head, **SMALL)
    labelled = example(head, SMALL)
    unlabelled = {"input_ids": labelled["input_ids"]}
    for arguments in (labelled, unlabelled):
        a, b = (model(**arguments, return_dict=False) for model in (yoso_model, transformers_model))
        assert isinstance(a, tuple)
        assert [x.shape for x in a] == [x.shape for x in b]


@pytest.mark.parametrize("head", TASK_HEADS)
def test_inputs_embeds_can_replace_input_ids(head):
    model = make_yoso(head, **SMALL)
    ids = example(head, SMALL)["input_ids"]
    embeds = model.get_input_embeddings()(ids)
    assert torch.equal(model(ids)[0], model(inputs_embeds=embeds)[0])


PROBLEMS = {
    "regression of one": (1, torch.tensor([0.5, -1.0]), "regression"),
    "regression of several": (3, torch.randn(2, 3), "regression"),
    "single label": (3, torch.tensor([2, 0]), "single_label_classification"),
    "multi label": (3, torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]), "multi_label_classification"),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_losses_of_every_problem_type_equal_transformers(problem):
    num_labels, labels, expected = PROBLEMS[problem]
    fields = {"problem_type": expected} if problem == "regression of several" else {}
    yoso_model, transformers_model = make_pair("ForSequenceClassification", **SMALL, num_labels=num_labels, **fields)
    ids = tokens(2, 9, vocab_size=60)
    a, b = (model(ids, labels=labels).loss for model in (yoso_model, transformers_model))
    assert a.item() == pytest.approx(b.item(), rel=1e-5)
    assert yoso_model.config.problem_type == transformers_model.config.problem_type == expected


def test_padded_tokens_do_not_count_in_the_loss():
    model = make_yoso("ForTokenClassification", **SMALL)
    ids, labels = tokens(2, 12, vocab_size=60), tokens(2, 12, vocab_size=60) % 2
    mask = torch.ones_like(ids)
    mask[:, 8:] = 0
    short = model(ids[:, :8], labels=labels[:, :8]).loss
    assert model(ids, attention_mask=mask, labels=labels).loss.item() == pytest.approx(short.item(), rel=1e-5)


def test_the_decoder_is_tied_to_the_embeddings():
    model = make_yoso("ForMaskedLM", **SMALL)
    predictions = model.cls.predictions
    assert predictions.decoder.weight is model.yoso.embeddings.word_embeddings.weight
    assert predictions.decoder.bias is predictions.bias


@pytest.mark.parametrize("size", [50, 75])
def test_embeddings_and_decoder_can_be_resized(size):
    model = make_yoso("ForMaskedLM", **SMALL)
    ids = tokens(2, 9, vocab_size=50)
    with torch.no_grad():
        before = model(ids).logits
    model.resize_token_embeddings(size)
    result = model(ids, labels=ids)
    assert result.logits.shape == (2, 9, size)
    assert largest_difference(result.logits[..., :50], before[..., :50]) < 1e-5
    assert model.config.vocab_size == size
    decoder = model.cls.predictions.decoder
    assert decoder.weight is model.yoso.embeddings.word_embeddings.weight
    assert decoder.bias is model.cls.predictions.bias
    result.loss.backward()


def test_a_saved_model_loads_with_the_same_outputs(tmp_path):
    model = make_yoso("ForMaskedLM", **SMALL, hash_family="gaussian")
    model.save_pretrained(tmp_path)
    loaded, report = yoso.YosoForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = tokens(1, 9, vocab_size=60)
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    assert loaded.config.hash_family == "gaussian"


def test_a_task_model_loads_an_encoder_checkpoint_of_transformers(tmp_path):
    encoder = transformers_yoso.YosoModel(transformers_yoso.YosoConfig(**SMALL))
    encoder.save_pretrained(tmp_path)
    model, report = yoso.YosoForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert all(key.startswith("cls.") for key in report["missing_keys"])
    assert torch.equal(model.yoso.embeddings.word_embeddings.weight, encoder.embeddings.word_embeddings.weight)
    assert model.cls.predictions.bias.abs().max() == 0


def test_multiple_choice_needs_the_dimension_of_the_choices():
    model = make_yoso("ForMultipleChoice", **SMALL)
    with pytest.raises(ValueError, match=r"input_ids: expected \[batch, choices, length\], got \[2, 9\]"):
        model(tokens(2, 9, vocab_size=60))
    with pytest.raises(ValueError, match=r"inputs_embeds: expected \[batch, choices, length, hidden\]"):
        model(inputs_embeds=torch.zeros(2, 9, 32))
    with pytest.raises(ValueError, match="got neither"):
        model()


def test_num_labels_must_be_positive():
    config = yoso.YosoConfig(**SMALL)
    config.id2label = {}
    with pytest.raises(ValueError, match="num_labels: expected at least 1"):
        yoso.YosoForTokenClassification(config)


@pytest.mark.parametrize("head", TASK_HEADS)
@pytest.mark.parametrize("attention", ["yoso", "yoso_e"])
def test_every_weight_gets_a_gradient(head, attention):
    model = make_yoso(head, **SMALL, attn_implementation=attention, conv_window=3).train()
    torch.manual_seed(0)
    model(**example(head, SMALL)).loss.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    key = model.yoso.encoder.layer[0].attention.self.key.weight
    assert key.grad.abs().max() > 0


def test_the_trainer_of_transformers_reduces_the_loss(tmp_path):
    ids = tokens(32, 12, vocab_size=60)
    examples = [{"input_ids": row, "labels": label} for row, label in zip(ids, ids[:, 0] % 2, strict=True)]
    torch.manual_seed(0)
    model = yoso.YosoForSequenceClassification(yoso.YosoConfig(**SMALL, hidden_dropout_prob=0.0))
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=8,
        max_steps=30,
        learning_rate=3e-3,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = Trainer(model, arguments, train_dataset=examples, eval_dataset=examples)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before - 0.05


@pytest.fixture
def tokenizer():
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "you", "only", "sample", "almost", "once"]
    model = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    model.pre_tokenizer = Whitespace()
    model.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=model,
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
    )


def test_fill_mask_pipeline(tokenizer):
    model = make_yoso("ForMaskedLM", **(SMALL | {"vocab_size": 10}))
    fill = pipeline("fill-mask", model=model, tokenizer=tokenizer, device="cpu")
    predictions = fill("you only <mask> once", top_k=3)
    logits = model(torch.tensor([[5, 6, 4, 9]])).logits[0, 2]
    assert [prediction["token"] for prediction in predictions] == logits.topk(3).indices.tolist()


def test_padding_in_a_text_classification_pipeline_has_no_effect(tokenizer):
    model = make_yoso("ForSequenceClassification", **(SMALL | {"vocab_size": 10}), num_labels=3)
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
    texts = ["you sample", "you only sample almost once", "once"]
    one_by_one = [classify(text)[0] for text in texts]
    batched = classify(texts, batch_size=3)
    for a, b in zip(one_by_one, batched, strict=True):
        assert a["label"] == b["label"]
        assert a["score"] == pytest.approx(b["score"], abs=1e-6)
