"""Where trials run: worker processes, the engines that feed them, and the programs they share."""
