"""Text search for drafters that copy: where the last tokens occurred before, and what followed.

Token ids in, token ids out: no model, no torch.
"""
