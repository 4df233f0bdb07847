"""Settings for all tests; fixtures lie beside the tests that use them."""
