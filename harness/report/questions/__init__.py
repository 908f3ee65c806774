"""The questions that a report answers: one file per question, with its tables, figures and sentences."""
