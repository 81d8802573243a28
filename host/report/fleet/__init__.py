"""The report over many measurements: a sweep, or a part of the history. `data` is what a page needs, `load` fills it."""
