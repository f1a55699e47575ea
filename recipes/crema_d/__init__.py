"""CREMA-D: faces and voices of actors, six emotions."""
