"""Pure thinking: which widths to keep, and what they cost. Neither torch nor gRPC."""
