"""`burnish doctor`: looks for faults of the machine, the installation and the project, and says how to fix them."""
