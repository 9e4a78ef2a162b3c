"""Few-shot methods of the field for CLIP, and a tabular foundation model, a file each.

All are written from the equations of their papers, with the authors' hyperparameters, and are functions of a task, the
drawn training images and a seed, as the other baselines in ``methods`` are. The authors train on many augmented views
of each image; here each image has one embedding.
"""
