"""The released files: the wheel and the sdist."""
