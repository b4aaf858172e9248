"""What bench/run is made of: servers, the load, and what the kernel says about both."""
