"""What holds for all tests."""

from hypothesis import HealthCheck, settings

# How long an example takes is the machine's affair: performance is measured by benchmarks.
settings.register_profile("luthier", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("luthier")
