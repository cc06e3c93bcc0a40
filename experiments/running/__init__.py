"""How a table runs: its rows, the groups of runs that share a program, what a run leaves behind."""
