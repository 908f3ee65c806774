"""The report as HTML, Markdown, LaTeX, CSV and pictures, and the folder of published runs."""
