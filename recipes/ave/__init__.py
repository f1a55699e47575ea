"""AVE: 28 events that are seen and heard."""
