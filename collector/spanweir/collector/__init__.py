"""The process: receivers, queue, decode, processors, assembly, delivery."""
