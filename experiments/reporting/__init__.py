"""Records in words, tables, figures and pages."""
