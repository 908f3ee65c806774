"""Whether a commit is slower, larger or worse than another: the gate, and what it is fed with."""
