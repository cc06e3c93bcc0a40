"""What a trial may be: domains of fields, and the space they make of a config."""
