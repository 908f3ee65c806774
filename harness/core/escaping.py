"""Text from outside, escaped for each format that is written: the one function per format that every writer uses.

Names of commits, attentions and machines, reasons and commands come from files, which anyone may have written. HTML is
escaped by Jinja's autoescape and ``html.escape``.
"""

import re
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


def _markdown_character(found: "re.Match[str]") -> str:
    character = found.group()
    return f"&#{ord(character)};" if character in _ENTITIES else "\\" + character
