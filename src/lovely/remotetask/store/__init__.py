"""What is stored: small things, each with one kind of writer."""
