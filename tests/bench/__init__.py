"""How fast tracking is, beside what people use today. README.md says how to run and read it."""
