"""What several attentions need: the softmax oracle, the cost of a call, and whether its tensors fit."""
