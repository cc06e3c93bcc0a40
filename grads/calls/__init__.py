"""A user's call made flat, and the forms in which its Jacobian is returned."""
