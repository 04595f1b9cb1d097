"""What every room needs to know about a project: its root, paths, parameters, git, exit codes and faults."""
