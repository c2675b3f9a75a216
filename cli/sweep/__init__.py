"""Many trainings from one file: what is asked for, who trains it, and the page that shows what came of it."""
