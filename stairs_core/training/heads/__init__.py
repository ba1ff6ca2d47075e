"""Heads on a frozen target, behind ``stairs train head``: texts, features, then any kind of head.

The target writes texts of its own, and its hidden states over them are computed once and kept on
disk. Every kind of head is trained from those files.
"""
