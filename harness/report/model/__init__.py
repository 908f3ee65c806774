"""The report as plain data: records as a table, sentences, figures and tables that keep the numbers in them."""
