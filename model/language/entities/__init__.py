"""Named entities: diseases, symptoms, medications and treatments, with offsets."""
