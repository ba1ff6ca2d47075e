"""One model and its forward pass: the KV cache, tree masks, faster passes of the same model.

The only room that touches a KV cache. It knows nothing of drafters or of acceptance.
"""
