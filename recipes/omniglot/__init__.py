"""A drawing and its pen: pictures of characters and the path of the pen that drew them."""
