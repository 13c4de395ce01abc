"""The store: blobs by digest of content, entries by key of stage."""
