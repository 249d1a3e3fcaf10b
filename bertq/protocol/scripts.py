"""The Lua scripts that Redis runs: the files of the folder ``lua``.

The comment at the top of each file lists its keys, its arguments and its result, and says why the
script must be one step. ``bertq.redis.connection.run_script`` runs a script.
"""

import re
from functools import cache
from importlib.resources import files

#: The comment at the top of a file, with the empty line after it.
_COMMENT = re.compile(r"\A(?:--.*\n)+\n")


def load(*names: str) -> str:
    """Return the source of a script, without the comments at the top.

    Redis gets the source of each script of a pipeline, so the comments would travel too. Load
    scripts when a module is imported: an upgrade of bertq must not give a running process the
    scripts of another version.

    Args:
        names: files in ``lua``, without the suffix. The last one is the script; files before it
            define functions that the script calls.
    """
    return "\n".join(_read(name) for name in names)


@cache
def _read(name: str) -> str:
    path = files("bertq.protocol") / "lua" / f"{name}.lua"
    return _COMMENT.sub("", path.read_text(encoding="utf-8"))
