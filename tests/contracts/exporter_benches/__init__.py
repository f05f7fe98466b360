"""One module for each exporter type: `Bench` is a real destination that the contract suite writes to and reads."""
