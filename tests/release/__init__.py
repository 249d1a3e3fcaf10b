"""What is given away: the wheel and the archive of sources."""
