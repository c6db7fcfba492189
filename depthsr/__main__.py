"""`python -m depthsr`."""

from depthsr.cli import main

if __name__ == "__main__":
    main()
