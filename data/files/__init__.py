"""`file:<path>`: the user's own arrays, tables and images."""
