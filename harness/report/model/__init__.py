"""The report as plain data: records as typed rows, and the parts of a page that keep the numbers in them."""
