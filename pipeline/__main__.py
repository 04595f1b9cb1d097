"""`python -m pipeline` is `burnish`, also where the console command is not in PATH."""

from pipeline.cli import main

if __name__ == "__main__":
    main()
