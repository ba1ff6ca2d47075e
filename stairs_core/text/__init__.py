"""Token ids and text: encoding a prompt, ids to text, and text between two tokenizers.

Works with tokenizers only: nothing here runs a forward pass.
"""
