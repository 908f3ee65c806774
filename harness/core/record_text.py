"""Text that comes from plugins, made safe to store: in one line, limited in length, and encodable as UTF-8."""

import re
import sys
from collections.abc import Iterable

MAX_LENGTH = 2000
"""Characters of a text that are kept; the number of the others is appended."""
MAX_REASONS = 50
"""Reasons of a record that are kept; the number of the others is appended."""

_LINE_BREAKS = re.compile("[ \t]*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+\\s*")
"""What ``str.splitlines`` splits at, with the indentation of the next line."""
_UNSTORABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and surrogates, which UTF-8 cannot encode."""
_SURROGATES = re.compile("[\ud800-\udfff]")
_OUTCOMES = {
    "Skipped": "called pytest.skip, which a plugin must not do; declare it in `unsupported`",
    "XFailed": "called pytest.xfail, which a plugin must not do; declare it in `unsupported`",
    "Failed": "called pytest.fail, which a plugin must not do; raise an exception",
    "Exit": "called pytest.exit, which a plugin must not do; raise an exception",
}
"""Reasons by the name of pytest's exception; a subclass is before its base."""


def clean_text(text: object) -> str:
    """The text in one line, without control characters and lone surrogates, and cut after ``MAX_LENGTH`` characters.

    A line break becomes a space, and each other character that cannot be stored becomes U+FFFD. A text that cannot be
    read, because its ``__str__`` raises, is replaced by a note that names the exception.
    """
    try:
        full = str(text)
        length = str.__len__(full)
        kept = str.__getitem__(full, slice(MAX_LENGTH))  # a plain str, also where `full` is of a subclass
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the text is an object of a plugin, whose methods can raise anything
        return f"(its text cannot be read: {_type_name(error)})"
    kept = _UNSTORABLE.sub("\ufffd", _LINE_BREAKS.sub(" ", kept))
    return f"{kept}... ({length - MAX_LENGTH} more characters)" if length > MAX_LENGTH else kept


def clean_reasons(reasons: Iterable[object]) -> list[str]:
    """Every reason as ``clean_text``, at most ``MAX_REASONS`` of them."""
    all_reasons = list(reasons)
    kept = [clean_text(reason) or "(empty text)" for reason in all_reasons[:MAX_REASONS]]
    return kept + ([f"... ({len(all_reasons) - MAX_REASONS} more reasons)"] if len(all_reasons) > MAX_REASONS else [])


def encodable(value: object) -> object:
    """The same value with U+FFFD for each lone surrogate, also in texts inside dictionaries, lists and tuples.

    UTF-8 cannot encode these: they come from bytes that Python could not decode, as in a file's name.
    """
    match value:
        case str():
            return _SURROGATES.sub("\ufffd", value)
        case dict():
            return {encodable(name): encodable(part) for name, part in value.items()}
        case list():
            return [encodable(part) for part in value]
        case tuple() if type(value) is tuple:
            return tuple(encodable(part) for part in value)
    return value


def exception_text(error: BaseException) -> str:
    """What a plugin raised, in one line: the type and the message, or what a plugin must not do."""
    message = clean_text(error)
    detail = f" (message: {message})" if message else ""
    outcomes = sys.modules.get("_pytest.outcomes")  # loaded, if one of these exceptions was raised
    for name, reason in _OUTCOMES.items():
        kind = getattr(outcomes, name, None)
        if isinstance(kind, type) and isinstance(error, kind):
            return reason + detail
    if isinstance(error, SystemExit):
        return f"raised SystemExit, which a plugin must not do; raise an ordinary exception{detail}"
    return f"{_type_name(error)}: {message}"


def _type_name(error: BaseException) -> str:
    return clean_text(type.__dict__["__name__"].__get__(type(error)))  # a metaclass can replace `__name__`
