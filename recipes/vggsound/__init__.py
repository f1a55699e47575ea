"""VGGSound: fifty kinds of sounds and what makes them."""
