"""Numbers of an artifact against those of its source model: where they are compared, how, and what passes."""
