"""The host: compresses networks against measurements that agents take on devices."""
