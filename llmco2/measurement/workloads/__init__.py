"""What runs while a meter listens: models in process, servers, and a simulated stand-in."""
