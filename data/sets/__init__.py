"""The named sets: bundled, generated, or read from the files of their publishers."""
