"""What runs and is never stored."""
