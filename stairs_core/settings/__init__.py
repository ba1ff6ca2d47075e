"""Settings that a person chooses, checked: of a run, of sampling, and the registry of drafters.

Standard library only. Nothing here loads a model or knows how a setting is carried out.
"""
