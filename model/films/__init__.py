"""Real chest films: one folder of several sources, an encoder, honest measurements."""
