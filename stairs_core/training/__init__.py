"""Trains the bundled pair from a folder of text: corpus, tokenizer, target, draft, distillation.

Stands beside the other rooms: only the command line opens it, and nothing here decodes.
"""
