"""Side services of the collector that no data flows through. One module each: `Config` builds it."""
