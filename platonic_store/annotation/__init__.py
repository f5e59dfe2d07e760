"""What a store knows, written into the records of a user's own file or database."""
