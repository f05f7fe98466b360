"""Destinations. One module each: `Config` is its options, its documentation and its factory."""
