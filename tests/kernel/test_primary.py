"""All connections of a process leave an old primary."""

from bertq.redis.primary import Primary


def test_a_new_primary_is_known_in_the_whole_process() -> None:
    first, second, other = Primary(), Primary(), Primary()
    of_first = first.record("old", "service")
    of_other = other.record("old", "another service")
    assert second.record("old", "service") == second.generation
    assert first.generation == of_first
    of_second = second.record("new", "service")
    assert second.generation == of_second
    assert first.generation != of_first  # its connections lead to the old one
    assert other.generation == of_other
    assert (first.changes, second.changes) == (0, 1)
    assert first.record("new", "service") == first.generation
    assert second.generation == of_second
    assert first.changes == 1
