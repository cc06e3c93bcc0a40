"""What is kept of a sweep: one file per trial, and the lease of who runs it."""
