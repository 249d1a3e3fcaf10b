"""``python -m bertq_cli``: the ``bertq`` command, for programs that start it."""

from bertq_cli.main import main

if __name__ == "__main__":
    main()
