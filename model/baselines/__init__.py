"""Other ways to answer the same question, on the same cases and encoders."""
