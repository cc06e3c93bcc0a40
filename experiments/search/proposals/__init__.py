"""Which trials come next: samplers of points, and the schedule of generations, seeds, folds and budgets."""
