"""What is known, what is a near duplicate in it, and the limits by which candidates are classed."""
