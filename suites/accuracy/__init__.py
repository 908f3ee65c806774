"""Which attentions train as well as softmax: the best learning rate of each, fresh seeds in pairs, and verdicts."""
