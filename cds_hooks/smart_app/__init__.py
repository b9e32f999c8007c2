"""The page behind the card: SMART launch, then the evidence of that very assessment."""
