"""Policies for the number of workers, simulated; the simulation is compared with real workers."""
