"""Settings for all tests; fixtures lie beside the tests that use them."""

from hypothesis import HealthCheck, settings

# A slow machine fails no test; what fails prints how to have the same example again.
settings.register_profile("headrace", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("headrace")
