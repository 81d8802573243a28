"""One module per version of the schema, the first included."""
