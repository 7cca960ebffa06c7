"""Broken configurations, command lines and data, each through the real command: the exact message, the exit code, no traceback.

In the messages, VERSION stands for ftcore's version and HERE for the folder of the test. Each line is printed behind
"error: ".
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftcore import __version__

GOOD = '[fine_tuner]\nbase_model_id = "user/model"\ntraining_data_id = "data.jsonl"\nload_in_4bit = false\n'

CONFIGS: dict[str, tuple[str | bytes, int, list[str]]] = {
    "typo in a key": (GOOD + 'learning_rte = 0.1\n', 2, ["config.toml:5: [fine_tuner] has no key 'learning_rte'. Did you mean learning_rate?"]),
    "typo in a section": (GOOD + '[stagse]\nloader = "auto"\n', 2, ['config.toml:5: the section [stagse] belongs to nothing that is installed. Did you mean [stages]?']),
    "typo in a plugin's section": (GOOD + '[mlfow]\nexperiment_name = "x"\n', 2, ['config.toml:5: the section [mlfow] belongs to nothing that is installed. Did you mean [mlflow]?']),
    "another program's name of a key": (GOOD + "num_train_epochs = 3\n", 2, ["config.toml:5: [fine_tuner] has no key 'num_train_epochs'. It is called epochs here"]),
    "a key of another section": (GOOD + 'output_dir = "out"\n', 2, ["config.toml:5: [fine_tuner] has no key 'output_dir'. It belongs under [run]"]),
    "typo in a stage's name": (GOOD + '[stages]\ntrianer = "sft"\n', 2, ["config.toml:6: [stages] has no key 'trianer'. Did you mean trainer?"]),
    "typo in a stage's plugin": (GOOD + '[stages]\ntrainer = "sftt"\n', 3, ['config.toml:6: [stages] trainer = "sftt" names no installed plugin: plugins that serve the stage trainer here: sft. Did you mean "sft"?']),
    "a plugin of another stage": (GOOD + '[stages]\ntrainer = "mlflow"\n', 3, ['config.toml:6: [stages] trainer = "mlflow" names a plugin that does not serve the stage trainer: plugin \'mlflow\' (ftcore VERSION) serves reporter; trainer is served by sft. Choose one of these']),
    "unknown tracker": (GOOD + 'report_to = "tensorbord"\n', 3, ['config.toml:5: report_to = "tensorbord" names no installed plugin: plugins that serve the stage reporter here: mlflow, tensorboard, wandb. Did you mean "tensorboard"?']),
    "text for an integer": (GOOD + 'rank = "16"\n', 2, ['config.toml:5: fine_tuner.rank = "16" is not allowed: it must be an integer']),
    "fraction for an integer": (GOOD + 'rank = 16.5\n', 2, ['config.toml:5: fine_tuner.rank = 16.5 is not allowed: it must be an integer']),
    "integer for a text": (GOOD + "system_prompt_override_text = 5\n", 2, ['config.toml:5: fine_tuner.system_prompt_override_text = 5 is not allowed: it must be a text in quotes']),
    "text for a switch": (GOOD + 'packing = "true"\n', 2, ['config.toml:5: fine_tuner.packing = "true" is not allowed: it must be true or false']),
    "text for a list": (GOOD + 'target_modules = "q_proj"\n', 2, ['config.toml:5: fine_tuner.target_modules = "q_proj" is not allowed: it must be a list or "all-linear"']),
    "number in a list": (GOOD + 'target_modules = ["q_proj", 7]\n', 2, ['config.toml:5: fine_tuner.target_modules = ["q_proj", 7] is not allowed: it must be a text in quotes (item 2)']),
    "empty list": (GOOD + "report_to = []\n", 2, ['config.toml:5: fine_tuner.report_to = [] is not allowed: it must not be empty']),
    "a date": (GOOD + "learning_rate = 2026-11-23\n", 2, ['config.toml:5: fine_tuner.learning_rate = 2026-11-23 is not allowed: it must be a number']),
    "not among the choices": (GOOD + 'lr_scheduler_type = "cosin"\n', 2, ['config.toml:5: fine_tuner.lr_scheduler_type = "cosin" is not allowed: it must be "linear", "cosine" or "constant"']),
    "unknown optimizer": (GOOD + 'optimizer = "adamw_troch"\n', 2, ['config.toml:5: there is no optimizer "adamw_troch". Did you mean adamw_torch?']),
    "too small": (GOOD + "device_train_batch_size = 0\n", 2, ['config.toml:5: fine_tuner.device_train_batch_size = 0 is not allowed: it must be at least 1']),
    "too large": (GOOD + "weight_decay = 2\n", 2, ['config.toml:5: fine_tuner.weight_decay = 2 is not allowed: it must be at most 1']),
    "not a number": (GOOD + "learning_rate = nan\n", 2, ['config.toml:5: fine_tuner.learning_rate = nan is not allowed: it must be a finite number']),
    "infinite": (GOOD + "epochs = inf\n", 2, ['config.toml:5: fine_tuner.epochs = inf is not allowed: it must be a finite number']),
    "infinite wait": (GOOD + "[run]\nreport_timeout = inf\n", 2, ['config.toml:6: run.report_timeout = inf is not allowed: it must be a finite number']),
    "an integer of 400 digits": (GOOD + "seed = " + "9" * 400 + "\n", 2, ['config.toml:5: fine_tuner.seed = 999999999999999999999999999999999999999999999999999999999999… is not allowed: it must be at most 4294967295']),
    "an integer of 5000 digits": (GOOD + "seed = " + "9" * 5000 + "\n", 2, ['config.toml:5: the number has too many digits to be meant']),
    "a name that leaves the folder": (GOOD + '[run]\nname = "../../etc"\n', 2, ["config.toml:6: the run cannot be named '../../etc': it has the characters '/' (from run.name); the name is a folder and a Hub repository. Use letters, digits, '.', '_' and '-'"]),
    "an absolute name": (GOOD + '[mlflow]\nrun_name = "/etc/cron.d"\n', 2, ["config.toml:6: the run cannot be named '/etc/cron.d': it has the characters '/' (from mlflow.run_name); the name is a folder and a Hub repository. Use letters, digits, '.', '_' and '-'"]),
    "a name with blanks": (GOOD + '[run]\nname = "my run"\n', 2, ["config.toml:6: the run cannot be named 'my run': it has the characters ' ' (from run.name); the name is a folder and a Hub repository. Use letters, digits, '.', '_' and '-'"]),
    "a name with umlauts": (GOOD + '[run]\nname = "lauf-für-mich"\n', 2, ["config.toml:6: the run cannot be named 'lauf-für-mich': it has the characters 'ü' (from run.name); the name is a folder and a Hub repository. Use letters, digits, '.', '_' and '-'"]),
    "a name with a line end": (GOOD + '[run]\nname = "a\\nb"\n', 2, ["config.toml:6: the run cannot be named 'a\\nb': it has the characters '\\n' (from run.name); the name is a folder and a Hub repository. Use letters, digits, '.', '_' and '-'"]),
    "a long name": (GOOD + '[run]\nname = "' + "x" * 300 + '"\n', 2, ["config.toml:6: the run cannot be named 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…': it has 300 characters and the Hub takes 96 (from run.name); the name is a folder and a Hub repository. Use letters, digits, '.', '_' and '-'"]),
    "a prefix that is a path": (GOOD + '[mlflow]\nrun_name_prefix = "exp/"\n', 2, ["config.toml:6: the run cannot be named 'exp/20250629-143022': it has the characters '/' (from mlflow.run_name_prefix); the name is a folder and a Hub repository. Use letters, digits, '.', '_' and '-'"]),
    "two names": (GOOD + '[run]\nname = "a"\n[mlflow]\nrun_name = "b"\n', 2, ['config.toml:8: run.name = "a" and mlflow.run_name = "b" name the same thing. Remove one of them']),
    "nothing required": ("[fine_tuner]\n", 2, ['config.toml:1: [fine_tuner] has no base_model_id, which is required. Add base_model_id = "…"', 'config.toml:1: [fine_tuner] has no training_data_id, which is required. Add training_data_id = "…"']),
    "empty file": ("", 2, ['config.toml: [fine_tuner] has no base_model_id, which is required. Add base_model_id = "…"', 'config.toml: [fine_tuner] has no training_data_id, which is required. Add training_data_id = "…"']),
    "only a comment": ("# nothing\n", 2, ['config.toml: [fine_tuner] has no base_model_id, which is required. Add base_model_id = "…"', 'config.toml: [fine_tuner] has no training_data_id, which is required. Add training_data_id = "…"']),
    "an empty model id": (GOOD.replace("user/model", ""), 2, ['config.toml:2: fine_tuner.base_model_id = "" is not allowed: it must not be empty']),
    "two quantizations": (GOOD.replace("load_in_4bit = false", "load_in_4bit = true") + "load_in_8bit = true\n", 2, ['config.toml:4: load_in_4bit and load_in_8bit are both set: a model is quantized once. Remove load_in_4bit or load_in_8bit']),
    "quantized full fine-tuning": (GOOD + "load_in_8bit = true\nfull_finetuning = true\n", 2, ['config.toml:5: load_in_8bit and full_finetuning are both set: quantized weights cannot be trained. Remove load_in_8bit or full_finetuning']),
    "half of the turn markers": (GOOD + 'question_part = "<|user|>"\n', 2, ['config.toml:5: question_part is set and answer_part is not: only together do they mark where a turn begins and ends. Set both, or neither to read them off the chat template']),
    "push without the saver": (GOOD + 'push_to_hub = true\n[stages]\nsavers = ["local"]\n', 2, ['config.toml:5: push_to_hub is true and [stages] savers does not name hub: nothing would be pushed. Add "hub" to savers, or remove push_to_hub']),
    "push without a token": (GOOD + "push_to_hub = true\n", 2, ['config.toml:5: push_to_hub is true and there is no access token: HF_TOKEN is not set and `hf auth login` stored none. Set HF_TOKEN to a token that can write, or remove push_to_hub and hub from savers']),
    "none beside a tracker": (GOOD + 'report_to = ["none", "mlflow"]\n', 2, ['config.toml:5: fine_tuner.report_to = ["none", "mlflow"] is not allowed: "none" cannot stand beside other reporters']),
    "a saver twice": (GOOD + '[stages]\nsavers = ["local", "local"]\n', 2, ['config.toml:6: stages.savers = ["local", "local"] is not allowed: a saver is named twice']),
    "an unset variable": (GOOD + 'rank = "${FTCORE_NO_SUCH_VARIABLE}"\n', 2, ['config.toml:5: fine_tuner.rank reads the environment variable FTCORE_NO_SUCH_VARIABLE, which is not set. Set it, or give a default: ${FTCORE_NO_SUCH_VARIABLE:-value}']),
    "half a variable": (GOOD + 'rank = "${RANK"\n', 2, ["config.toml:5: fine_tuner.rank has a ${ that no variable's name and } follow. Write ${NAME} or ${NAME:-default}; a ${ that is meant as it stands is written $${"]),
    "a key outside of sections": ('rank = 8\n' + GOOD, 2, ["config.toml:1: the key 'rank' stands outside of any section. Put it under [fine_tuner]"]),
    "a section that is no table": ('run = "x"\n' + GOOD, 2, ['config.toml:1: run = "x" is not allowed: run is a section, not a key. Write [run] on a line of its own, and the keys under it']),
    "a list of tables": (GOOD + "[[run]]\nname = 'x'\n", 2, ['config.toml:5: run = [{ name = "x" }] is not allowed: run is a section, not a key. Write [run] on a line of its own, and the keys under it']),
    "nested sections": (GOOD + "[fine_tuner.lora]\nrank = 8\n", 2, ["config.toml:5: [fine_tuner] has no key 'lora'. There are no sections inside [fine_tuner]: its keys stand directly under it"]),
    "deep nesting": (GOOD + "[" + ".".join("a" * 3000) + "]\n", 2, ['config.toml is nested too deeply. A configuration has sections, and keys in them']),
    "deep lists": (GOOD + "x = " + "[" * 2000 + "]" * 2000 + "\n", 2, ['config.toml is nested too deeply. A configuration has sections, and keys in them']),
    "a key twice": (GOOD + "rank = 8\nrank = 16\n", 2, ['config.toml:6:10: not valid TOML: a key stands there twice. The line is: rank = 16']),
    "a section twice": (GOOD + "[run]\n[fine_tuner]\n", 2, ['config.toml:6:12: not valid TOML: the section [fine_tuner] stands there twice. The line is: [fine_tuner]']),
    "no value": (GOOD + "rank =\n", 2, ['config.toml:5:7: not valid TOML: this is no value; texts stand in quotes, true and false are written small. The line is: rank =']),
    "Python's True": (GOOD + "packing = True\n", 2, ['config.toml:5:11: not valid TOML: this is no value; texts stand in quotes, true and false are written small. The line is: packing = True']),
    "no quotes": (GOOD + "dtype = bfloat16\n", 2, ['config.toml:5:9: not valid TOML: this is no value; texts stand in quotes, true and false are written small. The line is: dtype = bfloat16']),
    "an open quote": (GOOD + 'dtype = "bfloat16\n', 2, ['config.toml:5:18: not valid TOML: a text in quotes ends on the line where it begins (three quotes open a longer one). The line is: dtype = "bfloat16']),
    "an open list": (GOOD + 'report_to = ["mlflow"\n', 2, ['config.toml:6:1: not valid TOML: a list is not closed with ]']),
    "a Windows path": (GOOD + 'chat_template = "C:\\data"\n', 2, ['config.toml:5:22: not valid TOML: a backslash in double quotes is written twice, or the text in single quotes. The line is: chat_template = "C:\\data"']),
    "YAML": ("fine_tuner:\n  rank: 8\n", 2, ["config.toml:1:11: not valid TOML: expected '=' after a key in a key/value pair. The line is: fine_tuner:"]),
    "JSON": ('{"fine_tuner": {"rank": 8}}\n', 2, ['config.toml:1:1: not valid TOML: invalid statement. The line is: {"fine_tuner": {"rank": 8}}']),
    "not UTF-8": (b"[fine_tuner]\nbase_model_id = '\xe4'\n", 2, ['config.toml is not a text file in UTF-8: byte 30 is 0xe4. Save it as UTF-8']),
    "UTF-16": ("[fine_tuner]\n".encode("utf-16"), 2, ['config.toml is not a text file in UTF-8: byte 0 is 0xff. Save it as UTF-8']),
    "binary junk": (bytes(range(256)) * 8, 2, ['config.toml is not a text file in UTF-8: byte 128 is 0x80. Save it as UTF-8']),
    "a null byte": (GOOD.encode() + b"x = '\x00'\n", 2, ["config.toml:5:6: not valid TOML: found invalid character '\\x00'. The line is: x = '�'"]),
    "a value of 1 MB": (GOOD + 'training_data_id2 = "x"\n'.replace("x", "y" * 2**20), 2, ["config.toml:5: [fine_tuner] has no key 'training_data_id2'. Did you mean training_data_id?"]),
    "a model id of 1 MB": (GOOD.replace("user/model", "m" * 2**20), 2, ['config.toml:2: fine_tuner.base_model_id = "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm…" is not allowed: it must be at most 4096 characters long']),
    "a key of 1 MB": (GOOD + "k" * 2**20 + " = 1\n", 2, ["config.toml:5: [fine_tuner] has no key 'kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk…'. `ftcore schema` lists the keys"]),
    "17 MB": ("#" * (17 * 2**20), 2, ['config.toml is too large for a configuration. Name a TOML file of at most 16 MiB']),
    "unknown prefix of a model": (GOOD.replace("user/model", "smolm2:135m-instruct"), 3, ['config.toml:2: base_model_id\'s prefix = "smolm2" names no installed plugin: plugins that serve the stage model here: smollm2. Did you mean "smollm2"?']),
    "unknown prefix of data": (GOOD.replace("data.jsonl", "acme:tickets"), 3, ['config.toml:3: training_data_id\'s data source = "acme" names no installed plugin: plugins that serve the stage data here: file, hf. Install the plugin\'s package, or choose one of these; `ftcore plugins` lists them']),
    "options that cannot be read": (GOOD.replace("data.jsonl", "data.jsonl?split"), 2, ['config.toml:3: training_data_id: the id "data.jsonl?split" cannot be read: behind the question mark stand options like split=train, each once, joined by &. Write it as path?option=value&option=value']),
    "an option twice": (GOOD.replace("data.jsonl", "user/data?split=a&split=b"), 2, ['config.toml:3: training_data_id: the id "user/data?split=a&split=b" cannot be read: behind the question mark stand options like split=train, each once, joined by &. Write it as path?option=value&option=value']),
    "output_dir is a file": (GOOD + '[run]\noutput_dir = "data.jsonl"\n', 2, ['config.toml:6: output_dir cannot be "data.jsonl": HERE/data.jsonl is no folder. Choose another output_dir']),
    "output_dir under a file": (GOOD + '[run]\noutput_dir = "data.jsonl/runs"\n', 2, ['config.toml:6: output_dir cannot be "data.jsonl/runs": HERE/data.jsonl is no folder. Choose another output_dir']),
    "output_dir of nobody": (GOOD + '[run]\noutput_dir = "~nobody-of-that-name/runs"\n', 2, ['config.toml:6: output_dir cannot be "~nobody-of-that-name/runs": Could not determine home directory. Choose another output_dir']),
    "output_dir too long": (GOOD + '[run]\noutput_dir = "' + "x" * 4000 + '"\n', 2, ['config.toml:6: output_dir cannot be "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…": File name too long. Choose another output_dir']),
    "names of plugins beside other mistakes": ('[fine_tuner]\nbase_model_id = "m"\nrank = "x"\nreport_to = "mlfow"\n[stages]\ntrainer = "sfft"\nloader = 3\n[run]\noutput_dir = "data.jsonl"\n', 2, [
        'config.toml:1: [fine_tuner] has no training_data_id, which is required. Add training_data_id = "…"',
        'config.toml:3: fine_tuner.rank = "x" is not allowed: it must be an integer',
        'config.toml:7: stages.loader = 3 is not allowed: it must be a text in quotes',
        'config.toml:9: output_dir cannot be "data.jsonl": HERE/data.jsonl is no folder. Choose another output_dir',
        'config.toml:6: [stages] trainer = "sfft" names no installed plugin: plugins that serve the stage trainer here: sft. Did you mean "sft"?',
        'config.toml:4: report_to = "mlfow" names no installed plugin: plugins that serve the stage reporter here: mlflow, tensorboard, wandb. Did you mean "mlflow"?']),
    "a name of a plugin beside an unknown key": (GOOD + 'epoch = 3\n[stages]\nloader = "transformrs"\n', 2, ["config.toml:5: [fine_tuner] has no key 'epoch'. Did you mean epochs?", 'config.toml:7: [stages] loader = "transformrs" names no installed plugin: plugins that serve the stage loader here: transformers, unsloth. Did you mean "transformers"?']),
    "a name of the run beside another mistake there": (GOOD + '[run]\nname = "a/b"\nnmae = "x"\n', 2, ["config.toml:7: [run] has no key 'nmae'. Did you mean name?"]),
    "null bytes in paths": (GOOD.replace("user/model", "a\\u0000b") + '[run]\noutput_dir = "c\\u0000d"\n', 2, ['config.toml:2: base_model_id = "a�b" has a null byte in it. Write the path without it', 'config.toml:6: output_dir = "c�d" has a null byte in it. Write the path without it']),
    "homes of nobody": (GOOD.replace("user/model", "~nobody-of-that-name/m") + 'chat_template = "~nobody-of-that-name/t"\n', 2, ['config.toml:2: base_model_id = "~nobody-of-that-name/m" lies in the home of a user who is not here. Write the whole path', 'config.toml:5: chat_template = "~nobody-of-that-name/t" lies in the home of a user who is not here. Write the whole path']),
    "several at once": ('[fine_tuner]\nrank = 0\nepoch = 3\n[runs]\n', 2, ['config.toml:1: [fine_tuner] has no base_model_id, which is required. Add base_model_id = "…"', 'config.toml:1: [fine_tuner] has no training_data_id, which is required. Add training_data_id = "…"', 'config.toml:2: fine_tuner.rank = 0 is not allowed: it must be at least 1', "config.toml:3: [fine_tuner] has no key 'epoch'. Did you mean epochs?", 'config.toml:4: the section [runs] belongs to nothing that is installed. Did you mean [run]?']),
}  # fmt: skip

ARGUMENTS: dict[str, tuple[list[str], int, list[str]]] = {
    "set without a value": (["check", "config.toml", "--set", "fine_tuner.rank"], 2, ['config.toml: --set fine_tuner.rank is not of the form section.key=value. Give all three, like --set fine_tuner.epochs=3']),
    "set without a section": (["check", "config.toml", "--set", "rank=8"], 2, ['config.toml: --set rank=8 is not of the form section.key=value. Give all three, like --set fine_tuner.rank=…']),
    "set of nothing": (["check", "config.toml", "--set", "=8"], 2, ['config.toml: --set =8 is not of the form section.key=value. Give all three, like --set fine_tuner.epochs=3']),
    "set of a typo": (["check", "config.toml", "--set", "fine_tuner.rnk=8"], 2, ["--set fine_tuner.rnk: [fine_tuner] has no key 'rnk'. Did you mean rank?"]),
    "set of a wrong type": (["check", "config.toml", "--set", "fine_tuner.rank=eight"], 2, ['--set fine_tuner.rank: fine_tuner.rank = "eight" is not allowed: it must be an integer']),
    "set of an unknown section": (["check", "config.toml", "--set", "mlfow.run_name=x"], 2, ['--set mlfow.run_name: the section [mlfow] belongs to nothing that is installed. Did you mean [mlflow]?']),
    "set of a nested key": (["check", "config.toml", "--set", "fine_tuner.loftq_config.loftq_bits=4"], 2, ["--set fine_tuner.loftq_config.loftq_bits: [fine_tuner] has no key 'loftq_config.loftq_bits'. Give the whole table: --set 'fine_tuner.loftq_config={ loftq_bits = … }'"]),
    "set of a bad name": (["check", "config.toml", "--set", "run.name=a/b"], 2, ["--set run.name: the run cannot be named 'a/b': it has the characters '/' (from run.name); the name is a folder and a Hub repository. Use letters, digits, '.', '_' and '-'"]),
    "a typo in a command": (['chekc', 'config.toml'], 2, ["there is no command 'chekc'. Did you mean 'check'? (`ftcore --help` explains)"]),
    "a command that is nowhere": (['zzzz'], 2, ["there is no command 'zzzz'. Commands: run, ask, merge, finish, push, report, check, preview, plugins, init, estimate, doctor, cache, schema (`ftcore --help` explains)"]),
    "no file": (['check'], 2, ["Missing argument 'CONFIG'. (`ftcore check --help` explains)"]),
    "two files": (['check', 'config.toml', 'b'], 2, ['Got unexpected extra argument (b) (`ftcore check --help` explains)']),
    "unknown option": (['check', 'config.toml', '--sett', 'x'], 2, ["No such option '--sett'. Did you mean '--set'? (`ftcore check --help` explains)"]),
    "set with nothing behind": (['check', 'config.toml', '--set'], 2, ["Option '--set' requires an argument."]),
    "unknown option of ftcore": (['--frobnicate'], 2, ["No such option '--frobnicate'. (`ftcore --help` explains)"]),
    "run without a file": (['run'], 2, ["Missing argument 'CONFIG'. (`ftcore run --help` explains)"]),
    "missing file": (['check', 'nowhere.toml'], 2, ['there is no file nowhere.toml. Check the path']),
    "missing file to run": (['run', 'nowhere.toml'], 2, ['there is no file nowhere.toml. Check the path']),
    "standard input": (['check', '-'], 2, ['there is no file -. Write a file: a run is gone on with, and started in other processes, by its name']),
    "a device without an end": (['check', '/dev/zero'], 2, ['/dev/zero is too large for a configuration. Name a TOML file of at most 16 MiB']),
    "a run that is nowhere": (['finish', 'nowhere'], 2, ['nowhere is no run directory. Name a run directory, such as runs/<name>']),
    "a run with a long path": (["push", "x" * 5000], 2, ['xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx… cannot be used: File name too long. Check the path, and who may read and write there']),
    "a model with a long path": (["ask", "x" * 5000, "Why?"], 2, ['xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx… cannot be used: File name too long. Check the path, and who may read and write there']),
    "no number of seconds": (['finish', '.', '--timeout', 'nan'], 2, ["Invalid value for '--timeout': nan is no number (`ftcore finish --help` explains)"]),
    "a plugin's folder that is a file": (['plugins', 'new', 'acme', '--kind', 'saver', '--into', 'data.jsonl'], 2, ['data.jsonl is a file. Choose a folder with --into']),
    "a plugin named like a section": (['plugins', 'new', 'run', '--kind', 'saver'], 2, ['a plugin cannot be named "run": the name means something else in a configuration. Choose another, like my-run']),
    "a run in the home of nobody": (['run', 'config.toml', '--resume', '~nobody-of-that-name/r'], 2, ['there is no run ~nobody-of-that-name/r: runs has no run. Start one: leave out --resume']),
    "a folder": (['check', '.'], 2, ['. is a folder. Name the configuration file in it']),
    "a file as a folder": (['check', 'data.jsonl/x'], 2, ['data.jsonl/x cannot be read: Not a directory']),
    "an empty path": (['check', ''], 2, ['. is a folder. Name the configuration file in it']),
    "a long path": (["check", "x" * 5000], 2, ['LONG cannot be read: File name too long']),
    "a typo in a subcommand": (['plugins', 'wyh'], 2, ["No such command 'wyh'. Did you mean 'why'? (`ftcore plugins --help` explains)"]),
    "why without a file": (['plugins', 'why'], 2, ["Missing argument 'CONFIG'. (`ftcore plugins why --help` explains)"]),
    "an argument too many": (['schema', 'x'], 2, ['Got unexpected extra argument (x) (`ftcore schema --help` explains)']),
    "schema of a file": (['plugins', 'why', 'nowhere.toml'], 2, ['there is no file nowhere.toml. Check the path']),
}  # fmt: skip

ROW = '{"question": "Why?", "answer": "So."}\n'
SHARE = "that is more than the share of 0.01 that [audit] max_bad_rows allows. Mend them, or raise max_bad_rows"

DATA: dict[str, tuple[str, str | bytes | None, str, str]] = {
    "missing file": ("data.jsonl", None, "", 'there is no file or folder "data.jsonl": it is not in HERE. Correct the path'),
    "empty file": ("data.jsonl", "", "", 'cannot read the data file "data.jsonl": it is empty. Check the file'),
    "blank lines": ("data.jsonl", "\n\n", "", 'cannot read the data file "data.jsonl": it is empty. Check the file'),
    "a header without rows": ("data.csv", "question,answer\n", "", '"data.csv" has no rows. Check the data'),
    "binary junk": ("data.jsonl", bytes(range(256)), "", 'cannot read the data file "data.jsonl": it is binary, not text. Check the file'),
    "half a line": ("data.jsonl", ROW * 3 + '{"question": "W', "", 'cannot read the data file "data.jsonl": line 4 is not valid JSON: Unterminated string starting at (column 14). Correct the file'),
    "no gzip": ("data.jsonl.gz", ROW, "", 'cannot read the data file "data.jsonl.gz": it ends in .gz and is not gzip. Check the file'),
    "too many cells": ("data.csv", "question,answer\na,b,c,d\n", "", 'cannot read the data file "data.csv": line 2 has 4 cells and there are 2 columns. Put quotation marks around cells that hold the delimiter or a line break'),
    "numbers for rows": ("data.json", "[1, 2]", "", 'cannot read the data file "data.json": item 1 is a number, not an object. Write each row as {column: value}'),
    "unknown ending": ("./data.xyz", ROW, "", 'cannot read the data file "data.xyz": the ending ".xyz" is unknown. Known are .json, .jsonl, .ndjson, .csv, .tsv, .parquet, .arrow, each also with .gz'),
    "missing column": ("data.jsonl", ROW, 'question_column = "questoin"\n', 'config.toml:6: question_column = "questoin" is no column of the training data: its columns are question, answer. Did you mean "question"?'),
    "columns of nobody": ("data.jsonl", '{"q": "a", "a": "b"}\n', "", "no formatter reads the columns q, a: installed formatters: instruction, messages, qa. Name the columns with question_column and ground_truth_column, or choose with [stages] formatter"),
    "columns of another formatter": ("data.jsonl", ROW, '[stages]\nformatter = "messages"\n', """the formatter 'messages' needs the column "messages": the columns of the training data are question, answer. Name the column with [messages] column"""),
    "only bad rows": ("data.jsonl", '{"question": "", "answer": "x"}\n' * 2, "", f'2 of 2 training rows cannot be used (row 0: "question" is empty; row 1: "question" is empty): {SHARE}'),
    "numbers for texts": ("data.jsonl", '{"question": 1, "answer": "x"}\n', "", f'1 of 1 training rows cannot be used (row 0: "question" is not text but a number): {SHARE}'),
    "too many bad rows": ("data.jsonl", ROW * 10 + '{"question": "", "answer": "x"}\n', "", f'1 of 11 training rows cannot be used (row 10: "question" is empty): {SHARE}'),
    "one bad row where none is allowed": ("data.jsonl", ROW * 200 + '{"question": "", "answer": "x"}\n', '[audit]\nbad_rows = "stop"\n', '1 of 201 training rows cannot be used (row 200: "question" is empty): [audit] bad_rows is "stop". Mend them, or set it to "skip"'),
    "only questions left": ("data.jsonl", ROW.replace("Why?", "W" * 400), "max_sequence_length = 64\n", "no token of the training data would be trained on: all 64 labels are masked; the first example is '<|im_start|>user\\n" + "W" * 58 + "', where '<|im_start|>assistant\\n' was looked for. Raise max_sequence_length (the longest needs 424): every prompt alone fills 64 tokens"),
}  # fmt: skip

WORKING = {
    "a byte order mark": b"\xef\xbb\xbf" + GOOD.encode(),
    "line ends of Windows": GOOD.replace("\n", "\r\n").encode(),
    "a prompt of 1 MB": (GOOD + 'system_prompt_override_text = """' + "läng " * 200_000 + '"""\n').encode(),
    "odd characters": (GOOD + 'question_column = "质问 \u2028"\n').encode(),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own with an empty data file, and no token anywhere."""
    monkeypatch.chdir(tmp_path)
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HUGGING_FACE_HUB_TOKEN", "FTCORE_DISABLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no-hub"))
    (tmp_path / "data.jsonl").touch()
    return tmp_path


def expected(lines: list[str], folder: Path) -> list[str]:
    return [f"error: {line.replace('VERSION', __version__).replace('HERE', str(folder))}" for line in lines]


def write(content: str | bytes, name: str = "config.toml") -> None:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())


def test_there_are_enough_of_them() -> None:
    assert len(CONFIGS) + len(ARGUMENTS) + len(DATA) > 100


@pytest.mark.parametrize("case", CONFIGS)
def test_a_broken_configuration(ftcore: Any, folder: Path, case: str) -> None:
    content, code, lines = CONFIGS[case]
    write(content)
    before = sorted(folder.iterdir())
    for command in ("check", "run"):
        outcome = ftcore(command, "config.toml")
        assert outcome.errors == expected(lines, folder)
        assert outcome.code == code
        assert outcome.out == ""
    assert sorted(folder.iterdir()) == before, "a run that cannot begin leaves nothing behind"


@pytest.mark.parametrize("case", ARGUMENTS)
def test_a_broken_command_line(ftcore: Any, folder: Path, case: str) -> None:
    arguments, code, lines = ARGUMENTS[case]
    write(GOOD)
    outcome = ftcore(*arguments)
    assert [line.replace("x" * 5000, "LONG") for line in outcome.errors] == expected(lines, folder)
    assert outcome.code == code


@pytest.mark.parametrize("case", WORKING)
def test_what_is_unusual_and_works(ftcore: Any, case: str) -> None:
    write(WORKING[case])
    outcome = ftcore("check", "config.toml")
    assert (outcome.code, outcome.errors) == (0, [])
    assert outcome.out.startswith("config.toml is valid: ")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder where not even root may write")
def test_an_output_dir_that_is_not_writable(ftcore: Any) -> None:
    write(GOOD + '[run]\noutput_dir = "/proc/self/runs"\n')
    for command in ("check", "run"):
        outcome = ftcore(command, "config.toml")
        assert outcome.errors == [
            'error: config.toml:6: output_dir cannot be "/proc/self/runs": /proc/self is not writable. '
            "Choose another output_dir"
        ]
        assert outcome.code == 2


def test_a_name_that_exists(ftcore: Any, folder: Path) -> None:
    (folder / "runs" / "old").mkdir(parents=True)
    (folder / "runs" / "old" / "manifest.json").touch()
    write(GOOD + '[run]\nname = "old"\n')
    outcome = ftcore("run", "config.toml")
    assert outcome.errors == [
        "error: the run runs/old exists: a run never overwrites another. "
        "Choose another name ([run] name), go on with it (--resume), or remove that folder"
    ]
    assert outcome.code == 2


@pytest.mark.parametrize("case", DATA)
def test_broken_data_stop_the_run_before_the_model_is_loaded(ftcore: Any, folder: Path, case: str) -> None:
    name, content, more, message = DATA[case]
    make_model_without_weights(folder / "model")
    Path("data.jsonl").unlink()
    if content is not None:
        write(content, name)
    write(
        '[fine_tuner]\nbase_model_id = "model"\nload_in_4bit = false\noptimizer = "adamw_torch"\n'
        f'training_data_id = "{name}"\n{more}'
    )
    outcome = ftcore("run", "config.toml", "--set", "run.name=r")
    errors = [line for line in outcome.errors if not line.startswith("warning: ")]  # rows that are alike, some of them
    assert errors == expected([message], folder)
    assert outcome.code == 4
    assert json.loads(Path("runs/r/manifest.json").read_text(encoding="utf-8"))["status"] == "failed"


def make_model_without_weights(folder: Path) -> None:
    """A tokenizer of single bytes with a ChatML template, and no model: loading one would be another error."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    special = ["<pad>", "<|im_start|>", "<|im_end|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: n for n, token in enumerate([*special, *letters])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    template = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": template}), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}), encoding="utf-8")


MANIFESTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "its manifest.json is damaged, or another program's"),
    "no JSON": (b"status: finished", "its manifest.json is damaged, or another program's"),
    "a list": (b"[]", "its manifest.json is damaged, or another program's"),
    "of a browser": (b'{"name": "x", "manifest_version": 3}', "its manifest.json is damaged, or another program's"),
    "not UTF-8": (b"\xff\xfe", "its manifest.json is damaged, or another program's"),
}


@pytest.mark.parametrize("command", ["merge", "finish", "push", "report"])
@pytest.mark.parametrize("case", MANIFESTS)
def test_a_folder_that_only_looks_like_a_run(ftcore: Any, command: str, case: str) -> None:
    content, why = MANIFESTS[case]
    Path("old").mkdir()
    write(GOOD, "old/config.toml")
    write(content, "old/manifest.json")
    outcome = ftcore(command, "old")
    assert outcome.errors == [f"error: old is no run directory: {why}. Name a run directory, such as runs/<name>"]
    assert outcome.code == 2


@pytest.mark.parametrize(
    ("in_the_way", "command"), [(".run.lock", "finish"), ("run.log", "finish"), ("run.log", "report")]
)
def test_a_run_that_cannot_be_written_to(ftcore: Any, in_the_way: str, command: str) -> None:
    Path("old", in_the_way).mkdir(parents=True)  # no right to write says the same, and holds for root too
    write(GOOD, "old/config.toml")
    write('{"started_at": "2026-11-23T12:00:00+00:00", "stages": []}', "old/manifest.json")
    outcome = ftcore(command, "old")
    (line,) = outcome.errors
    assert line.startswith("error: the run old cannot be gone on with: ")
    assert line.endswith(f"{in_the_way}: Is a directory. Make it writable, or copy it to where it is")
    assert outcome.code == 9


DISABLED = {
    "transformers,unsloth": "error: no plugin offers to load the model: [stages] loader is auto; disabled by FTCORE_DISABLE: "
    "transformers, unsloth. Mend one of these, install a loader, or name one there",
    "qa,instruction,messages": "error: no plugin can format the data: [stages] formatter is auto, and nobody serves that stage; "
    "disabled by FTCORE_DISABLE: instruction, messages, qa. Mend one of these, or install a formatter",
    "naming": "error: no plugin names the run: the plugin 'naming' is disabled. Take naming out of FTCORE_DISABLE",
}


@pytest.mark.parametrize("names", DISABLED)
def test_what_nobody_serves_since_it_is_disabled(ftcore: Any, monkeypatch: pytest.MonkeyPatch, names: str) -> None:
    write(GOOD)
    monkeypatch.setenv("FTCORE_DISABLE", names)
    outcome = ftcore("check", "config.toml")
    assert (outcome.errors, outcome.code) == ([DISABLED[names]], 3)


def test_a_push_is_wanted_by_the_command_and_no_line_of_the_file(ftcore: Any) -> None:
    Path("old", "model").mkdir(parents=True)
    write("{}", "old/model/adapter_config.json")
    write(GOOD + "push_to_hub = false\n", "old/config.toml")
    at = "2026-11-23T12:00:00+00:00"
    progress = {"fit": {"at": "2020-01-01T00:00:00+00:00"}, "save:local": {"at": at}}
    write(json.dumps({"started_at": at, "stages": [], "progress": progress}), "old/manifest.json")
    outcome = ftcore("push", "old")
    assert outcome.errors == [
        "error: ftcore push: push_to_hub is true and there is no access token: HF_TOKEN is not set and `hf auth login` stored "
        "none. Set HF_TOKEN to a token that can write, or remove push_to_hub and hub from savers"
    ]
    assert outcome.code == 2


def test_a_disabled_plugin_with_a_stage_and_a_section_is_one_line(ftcore: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write(GOOD + 'report_to = "mlflow"\n[mlflow]\nexperiment_name = "x"\n')
    monkeypatch.setenv("FTCORE_DISABLE", "mlflow")
    outcome = ftcore("check", "config.toml")
    (line,) = outcome.errors
    assert line.startswith('error: config.toml:5: report_to = "mlflow" names a plugin that is disabled: ')
    assert line.endswith("Take mlflow out of FTCORE_DISABLE")
    assert outcome.code == 3
