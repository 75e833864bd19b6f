"""bnncc compiles PyTorch binary neural networks to TensorFlow Lite files with Larq Compute Engine operators."""
