"""The command line of a run: its options, how they are parsed, what it says meanwhile and at the end."""
