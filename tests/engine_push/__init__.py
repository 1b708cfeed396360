"""The engine tier once more, with Baton's own connector between the two engines."""
