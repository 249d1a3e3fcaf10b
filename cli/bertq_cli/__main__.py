"""``python -m bertq_cli``: the ``bertq`` command, for those who start it from a program."""

from bertq_cli.main import main

if __name__ == "__main__":
    main()
