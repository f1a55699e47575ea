"""What distillation costs: time, memory, scale, and the three backends."""
