"""The parts of a worker: its tasks and how it comes to them, what it does beside the cycle, and how it ends."""
