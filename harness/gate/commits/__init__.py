"""Two commits checked out, built and measured in turns."""
