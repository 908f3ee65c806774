"""What one case needs: inputs, verification against the oracle, time, memory, quality, the models and the machine."""
