"""What several questions share: inputs, paired embeddings, references, test cases."""
