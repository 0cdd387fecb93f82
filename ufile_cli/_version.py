"""The version, alone in a file, so that `ufile --version` reads nothing else."""

VERSION = "0.1.0"
