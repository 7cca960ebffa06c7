"""Labels by unsloth's `train_on_responses_only`; nothing of ftcore's is in it.

    python unsloth_labels.py GIVEN.json RESULT.json

Given are jobs, each with a tokenizer's folder, the two parts, and the tokens of rows; the result has their labels.
"""

import json
import sys
from pathlib import Path

from unsloth.chat_templates import train_on_responses_only

# isort: split
from transformers import AutoTokenizer

result = []
for job in json.loads(Path(sys.argv[1]).read_text()):
    label = train_on_responses_only(
        None,
        instruction_part=job["question_part"],
        response_part=job["answer_part"],
        tokenizer=AutoTokenizer.from_pretrained(job["tokenizer"]),
        return_function=True,
    )
    result.append(label({"input_ids": job["input_ids"]})["labels"])
Path(sys.argv[2]).write_text(json.dumps(result))
