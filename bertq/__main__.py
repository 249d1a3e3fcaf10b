"""``python -m bertq``: the ``bertq`` command, or a line about the extra that installs it."""

import runpy

if __name__ == "__main__":
    runpy.run_module("bertq_cli", run_name="__main__", alter_sys=True)
