"""Following every channel through one run of a network: what meets, what goes together, what stays."""
