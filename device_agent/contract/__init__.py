"""The shared vocabulary of agent and host: frozen dataclasses, enums, statistics, errors. Standard library only."""
