"""`python -m app.cli` is `taskyard`, for an interpreter whose scripts are not on the path."""

from app.cli import main

if __name__ == "__main__":
    main()
