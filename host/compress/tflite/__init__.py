"""TFLite files: made by litert-torch, cut narrower, built layer by layer, and quantized."""
