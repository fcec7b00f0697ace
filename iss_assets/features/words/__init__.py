"""The words of a video: what was said and when, figures about it, and words that name somebody or some place.

Everything here needs the packages of the extra ``speech`` (`availability.SPEECH`).
"""
