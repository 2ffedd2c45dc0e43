from __future__ import annotations

from pathlib import Path

from transformers import CLIPTokenizer

from studio.pocket.recipe.denoiser import tokenise
from studio.pocket.tokenizer import train_tokenizer


def test_tokenizer_covers_every_text_and_survives_saving(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["photo of a woman with red hair, wearing a blue hoodie"], vocabulary=700)
    tokenizer.save_pretrained(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    assert again.model_max_length == 40 and len(again) == len(tokenizer) <= 700
    for text in ("photo of a woman with red hair", "sks woman, naïve café 🎉 42", "".join(map(chr, range(33, 1000)))):
        ids = again(text)["input_ids"]
        assert ids == tokenizer(text)["input_ids"]
        assert ids[0] == again.bos_token_id == 0
        assert ids[-1] == again.eos_token_id == 1
        assert again.unk_token_id not in ids[1:-1], "no byte may be unknown"
    assert len(again("woman with red hair")["input_ids"]) == 6
    padded = tokenise(again, ["a woman"])
    assert padded.shape == (1, 40) and padded[0, -1] == again.pad_token_id == 1
