"""The tri-modal network: three encoders, gated cross-attention, a label decoder."""
