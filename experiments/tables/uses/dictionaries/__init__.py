"""What few labels can do on top of codes: features for probes and for fine-tuning, recognition."""
