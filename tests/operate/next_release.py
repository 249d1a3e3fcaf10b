"""A stand-in worker of the next release: it also reads a newer wire format.

Both releases are the same code, except that the next one knows the format ``NEXT`` too.
"""

from bertq.protocol import versions

NEXT = versions.WIRE_VERSION + 1

if __name__ == "__main__":
    from benchmarks import standin

    versions.WIRE_VERSION = NEXT
    standin.main()
