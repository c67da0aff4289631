"""The method's arithmetic: virtual labels, mixup, losses, gradient reversal, schedules.

Pure functions of tensors and numbers; no file, no setting, no random state of their own.
"""
