"""Just-noticeable differences: threshold maps, just-noticeable images, data sets of people's judgements."""
