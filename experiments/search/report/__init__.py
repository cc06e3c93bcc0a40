"""What a sweep shows: progress, the table, the page."""
