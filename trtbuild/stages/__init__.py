"""The stages: small units that know nothing of graph, key, store or command line."""
