"""What a sweep came to: which trials are best, tables, pictures, and the best one's run marked."""
