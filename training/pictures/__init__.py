"""What a run looks like: its figures, the words for its metrics, and the export to TensorBoard."""
