"""Our compressor beside its rivals: accuracy at equal measured latency, with equal fine-tuning.

Compares: `host compress` with Torch-Pruning 1.6.1 (uniform and global, l2 and Taylor), ModelOpt 0.47 FastNAS, NetAdapt and a
    HALP-style knapsack (both written from their papers), uniform width, and a plan of our own planner that counts MACs.
On: CIFAR ResNet-20 and ResNet-56 with published weights, fine-tuned on the JPEG images that all train on; 0.7, 0.5 and 0.35 of
    the baseline's p50 latency on this machine, ONNX Runtime with one thread, always measured in turns with the baseline.
Fair because: every method sees the same images as often, with the same recipe, teacher and seed, searches included; the ones
    that have a dial are turned by bisection to the slowest plan at or under the target; all are measured by the same agent, and
    accuracies are compared image by image on 9,000 test images. A target that a method cannot reach is lost for it; where it
    came within 3 % its plan is trained nevertheless and shown. Rivals' packages: pip install 'boardfit[rivals]'.
"""
