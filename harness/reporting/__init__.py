"""From records to one offline HTML page; ``harness.reporting.report.write`` is the way in."""
