"""Statistics of raw samples: intervals, growth with length, robust means, meta-analysis and changepoints."""
