"""Multiple-choice questions: options scored one by one, with evidence."""
