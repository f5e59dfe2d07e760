"""What a model needs to run: card, licence, weights, environment, and worker processes."""
