"""What is known, and the limits by which candidates are classed."""
