"""What the product does, over ports."""
