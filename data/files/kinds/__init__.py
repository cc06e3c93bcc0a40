"""What a file's values are when they are no plain rows and no pictures: texts, series; and which of all it is."""
