"""Where the rows come from: `file` reads files and folders of this machine, `hf` datasets of the Hugging Face Hub.

Both return an Arrow-backed `datasets.Dataset`, and neither changes a text that it reads.
"""
