"""Texts of plugins become one line that every reader of a record can read."""

import pytest

from harness.core.record_text import MAX_LENGTH, MAX_REASONS, clean_reasons, clean_text, exception_text


class Unreadable:
    def __str__(self):
        raise SystemExit


class LyingText(str):
    def __len__(self):
        return 3

    def __getitem__(self, key):
        raise RuntimeError


def test_a_plain_text_is_unchanged():
    assert clean_text("grad_q: error 0.1, allowed 1e-06 \u2013 τ") == "grad_q: error 0.1, allowed 1e-06 \u2013 τ"


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029", "  \n\n   "])
def test_line_breaks_become_spaces(line_break):
    assert clean_text(f"a{line_break}b") == "a b"


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\x7f", "\ud800"])
def test_what_cannot_be_stored_is_replaced(character):
    assert clean_text(f"a{character}b") == "a\ufffdb"


def test_a_long_text_is_cut_and_says_how_much_is_missing():
    cut = clean_text("x" * 5_000_000)
    assert cut == "x" * MAX_LENGTH + f"... ({5_000_000 - MAX_LENGTH} more characters)"
    assert clean_text("x" * MAX_LENGTH) == "x" * MAX_LENGTH


def test_a_text_that_cannot_be_read_says_so():
    assert clean_text(Unreadable()) == "(its text cannot be read: SystemExit)"
    assert type(clean_text(LyingText("four"))) is str
    assert clean_text(LyingText("four")) == "four"


def test_many_reasons_are_counted():
    assert clean_reasons(["a", ""]) == ["a", "(empty text)"]
    assert clean_reasons(map(str, range(1000)))[-1] == f"... ({1000 - MAX_REASONS} more reasons)"


def test_exceptions_of_pytest_and_exits_say_what_a_plugin_must_not_do():
    assert "called pytest.skip, which a plugin must not do; declare it in `unsupported`" in exception_text(
        pytest.skip.Exception("slow")
    )
    assert "slow" in exception_text(pytest.skip.Exception("slow"))
    assert exception_text(SystemExit(0)).startswith("raised SystemExit, which a plugin must not do")
    assert exception_text(ValueError("no\nluck")) == "ValueError: no luck"
