"""Names and pictures of emoji."""
