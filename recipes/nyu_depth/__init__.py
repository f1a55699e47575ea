"""NYU-Depth V2: colours and distances of rooms, a class for every pixel."""
