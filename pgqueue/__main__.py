"""`python -m pgqueue` is the console script."""

from pgqueue.cli import main

if __name__ == "__main__":
    main()
