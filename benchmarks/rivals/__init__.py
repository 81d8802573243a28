"""Our compressor beside its rivals: equal measured latency, equal fine-tuning, accuracy compared image by image."""
