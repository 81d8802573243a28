"""Facts about classes of boards, one TOML file each; the agent reads them, people write them."""
