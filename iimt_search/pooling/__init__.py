"""What several models together say of the target: how far they agree, and labels better than any one's.

Pure functions of predictions and embeddings. Which models take part is decided elsewhere.
"""
