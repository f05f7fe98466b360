"""What `spanweir demo` runs: a sample application and its fake model."""
