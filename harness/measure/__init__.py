"""How one case is measured: its inputs, verification against the oracle, time, memory, quality, and the machine."""
