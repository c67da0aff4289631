"""``python -m iimt_search``."""

from iimt_search.cli import main

if __name__ == "__main__":
    main()
