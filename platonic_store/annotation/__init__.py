"""What a store knows of structures, written into the records of a user's own file or database."""
