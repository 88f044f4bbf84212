"""`python -m agpis` is the command `agpis`."""

from agpis.cli import main

if __name__ == "__main__":
    main()
