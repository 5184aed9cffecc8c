"""What Benchmarks/run is made of. Standard library only; knows the gateway by its command line."""
