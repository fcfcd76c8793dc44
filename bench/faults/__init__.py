"Faults that people make in training pipelines, planted in real ones, and clean twins: what does a bug finder find? Usage: `python bench/faults/run.py --help`."
