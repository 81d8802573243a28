"""Reports: one self-contained HTML page from the record of a finished run."""
