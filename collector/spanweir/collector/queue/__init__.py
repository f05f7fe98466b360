"""The durable queue: what has been acknowledged to a sender is here until every exporter has it."""
