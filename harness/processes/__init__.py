"""Child processes that run cases, count kernels and serve ``harness ab``; ``protocol`` has their common wire format."""
