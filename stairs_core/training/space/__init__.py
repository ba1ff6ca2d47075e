"""SPACE, for a target of one's own (``stairs train space``): it learns to guess at mask tokens.

The objective is also part of the bundled target's training. The rest fine-tunes any causal model
with it: texts as rows of ids, the mask token, the folder that comes out.
"""
