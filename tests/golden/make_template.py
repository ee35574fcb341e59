"""Write template.json anew from template.cases.json: `python tests/golden/make_template.py`. Read the difference
before you commit it: these bytes and ids are what every model of koala-ray is trained on.
"""

import json
import sys
from pathlib import Path

from koala_ray.records import Turn
from koala_ray.tokens.template import as_text, render
from koala_ray.tokens.tokenizer import Tokenizer

HERE = Path(__file__).parent
bases = {"bytes": "tiny", "sentencepiece": sys.argv[1], "smollm2": "smollm2-135m"}
tokenizers = {name: Tokenizer.load(base) for name, base in bases.items()}
cases = {}
for name, turns in json.loads((HERE / "template.cases.json").read_text(encoding="utf-8")).items():
    dialogue = [Turn(**turn) for turn in turns]
    cases[name] = {"turns": turns, "text": as_text(dialogue), "ids": {}, "learn": {}}
    for kind, tokenizer in tokenizers.items():
        rendered = render([dialogue], tokenizer)[0]
        cases[name]["ids"][kind] = rendered.ids
        cases[name]["learn"][kind] = "".join("1" if learn else "0" for learn in rendered.learn)
rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(case, ensure_ascii=False)}" for name, case in cases.items())
(HERE / "template.json").write_text("{\n" + rows + "\n}\n", encoding="utf-8")
