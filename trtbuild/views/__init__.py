"""Values into text for people."""
