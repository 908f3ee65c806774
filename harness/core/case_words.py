"""What distinguishes the cases of a run, in few words: an id has 60 characters, and a terminal has 80 columns."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.core.escaping import one_line
from harness.core.spec import AnySpec

_SEPARATORS = re.compile(r"[/-]")


@dataclass(frozen=True)
class CaseWords:
    """``shared`` has the words that every case has; ``names`` the other words of each case, by its id.

    No two cases have the same name. A single case shares nothing: its name is its whole id.
    """

    shared: str
    names: dict[str, str]

    def __getitem__(self, case_id: str) -> str:
        """The name of a case; of a case that was not among those that were compared, its id."""
        return self.names.get(case_id) or one_line(case_id)


def case_words(case_ids: Iterable[str]) -> CaseWords:
    """Split ids such as ``operation/yoso-n512-b1-fwd`` into words, and say once what all of them share."""
    words = {case_id: _SEPARATORS.split(one_line(case_id)) for case_id in dict.fromkeys(case_ids)}
    whole = CaseWords("", {case_id: one_line(case_id) for case_id in words})
    if len(words) < 2:
        return whole
    first, *others = words.values()
    in_all = set(first).intersection(*others)
    # The case without a knob has no word of its own beside the one that has it: both then keep the first word, too.
    for kept in (0, 1):
        names = {
            case_id: " ".join(word for place, word in enumerate(parts) if place < kept or word not in in_all)
            for case_id, parts in words.items()
        }
        if all(names.values()) and len(set(names.values())) == len(names):
            return CaseWords(" ".join(word for word in first[kept:] if word in in_all), names)
    return whole


def names_of_cases(specs: Sequence[AnySpec]) -> tuple[list[str], dict[str, str]]:
    """One line per kind of case with the words that all of them share, and a short name for each case id."""
    shared: list[str] = []
    names: dict[str, str] = {}
    for kind in dict.fromkeys(spec.kind for spec in specs):
        ids = [spec.case_id for spec in specs if spec.kind == kind]
        words = case_words(ids)
        common = [word for word in words.shared.split() if word != kind]
        if common:
            shared.append(f"all {kind} cases: {' '.join(common)}")
        names |= {case_id: f"{kind} {words[case_id]}" if words.shared else words[case_id] for case_id in ids}
    return shared, names
