"""Which attentions a trained model is also evaluated with."""

from harness.core.spec import Swap

HASHES = (4, 8, 16, 32, 64, 128)


def swaps(attention: str) -> tuple[Swap, ...]:
    """YOSO-E sampled with ever more hashes; softmax with each of the others. The rest are not swapped."""
    sampled = tuple(Swap(attention="yoso", knobs={"num_hash": hashes}) for hashes in HASHES)
    if attention == "yoso_e":
        return (*sampled, Swap(attention="softmax"))
    if attention == "softmax":
        return (Swap(attention="sdpa"), Swap(attention="yoso_e"), Swap(attention="yoso"), Swap(attention="linear"))
    return ()
