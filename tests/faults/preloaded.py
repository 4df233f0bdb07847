"""What the fork server imports before it forks workers: all that they need."""

import headrace.examples.flights  # noqa: F401
import tests.faults.soak_pipeline
import tests.faults.worker  # noqa: F401
