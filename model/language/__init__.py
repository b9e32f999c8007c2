"""Text tasks on real text: masked words, entities, links, questions, summaries."""
