"""`python -m app` is `loosh-miner`."""

from app.cli import main

if __name__ == "__main__":
    main()
