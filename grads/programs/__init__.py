"""A traced program: its equations, what they depend on, and where it can be cut."""
