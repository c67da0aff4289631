"""The method: virtual labels, mixup, losses, reversal, schedules."""
