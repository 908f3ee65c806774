"""Text from outside, escaped for each format that is written: the one function per format that every writer uses.

Names of commits, attentions and machines, reasons and commands come from files, which anyone may have written. HTML is
escaped by Jinja's autoescape and ``html.escape``.
"""

import json
import re
from collections.abc import Callable, Iterable
from urllib.parse import quote

_UNPRINTABLE = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_MARKDOWN = re.compile(r"[\\`*_\[\]<>|#@&~$]")
_ENTITIES = "<>@&"
"""Characters of Markdown that a backslash does not take the meaning from everywhere: in HTML, or in a mention."""
_LINE_START = re.compile(r"([-+=]|\d+[.)])(?=\s|$)|[-=]{3}")
"""What begins a list, a rule or the underline of a heading at the start of a line."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_LATEX = {character: "\\" + character for character in "#$%&_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\n": " ",
    "\r": " ",
}

_REORDERING = re.compile(
    "[\u0590-\u08ff\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]"
)
"""Letters that are written from right to left, and the controls of Unicode's bidirectional algorithm."""
_ISOLATES = re.compile("[\u2066-\u2069]")


def one_line(text: str) -> str:
    """The text without line breaks, and with U+FFFD for each character that no file or terminal should get."""
    return _UNPRINTABLE.sub("\ufffd", " ".join(text.split()))


def markdown(text: str) -> str:
    """The text on one line of GitHub's Markdown, in which nothing of it is markup, a mention or a cell's end."""
    escaped = _MARKDOWN.sub(_markdown_character, one_line(text))
    start = _LINE_START.match(escaped)
    if start is None:
        return escaped
    place = start.end() - 1 if escaped[0].isdigit() else 0  # a backslash in front of a digit would be printed
    return f"{escaped[:place]}\\{escaped[place:]}"


def csv_cell(value: object) -> object:
    """A cell that no spreadsheet takes for a formula: text that begins like one gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def latex(text: str) -> str:
    """The text for XeLaTeX or LuaLaTeX."""
    return "".join(_LATEX.get(character, character) for character in _UNPRINTABLE.sub("\ufffd", text))


def relative_link(path: str) -> str:
    """The path of a file as a relative link: a folder named ``javascript:...`` is a folder, and no scheme."""
    return quote(path, safe="/", errors="replace")


def reordering_texts(text: str) -> list[str]:
    """The strings in a JSON text that would change the order in which the words around them are shown: they are in
    Arabic or Hebrew, or contain a control such as the right-to-left override."""
    if not _REORDERING.search(text):
        return []
    found: set[str] = set()
    pending = [json.loads(text)]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += [*value, *value.values()]
        elif isinstance(value, list):
            pending += value
        elif isinstance(value, str) and _REORDERING.search(value):
            found.add(value)
    return sorted(found)


def isolating(names: Iterable[str]) -> Callable[[str], str]:
    """A function that puts each of ``names`` in a text between Unicode's isolates, so that it has its own direction and
    the words around it have theirs."""
    longest_first = sorted(set(names), key=lambda name: (-len(name), name))
    if not longest_first:
        return lambda text: text
    pattern = re.compile("|".join(map(re.escape, longest_first)))
    return lambda text: pattern.sub(lambda match: isolated(match.group()), text)


def isolated(name: str) -> str:
    """The name between isolates if it would reorder what is around it. Isolates of its own could end them and go."""
    return f"\u2068{_ISOLATES.sub('', name)}\u2069" if _REORDERING.search(name) else name


def _markdown_character(found: "re.Match[str]") -> str:
    character = found.group()
    return f"&#{ord(character)};" if character in _ENTITIES else "\\" + character
