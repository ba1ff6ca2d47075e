"""Loading models from folders and the hub, with all checks, and the pair that they form.

Code in a model's folder or repository is never run. Decoding and measuring belong to other rooms.
"""
