"""The part of the Photos tab that crops and captions one photo of a set; what is kept waits for the next check."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.core.domain import JobView
from studio.web.page import files, parts_photos, words
from studio.web.page.context import QUIET, Updates
from studio.web.page.photo_edits import Edits, crop_shares, sliders_of
from studio.web.session import StudioSession

_INTO_SIGHT = """
() => { const part = document.getElementById('ls-photo-editor');
        if (part && part.offsetParent) part.scrollIntoView({behavior: 'smooth', block: 'nearest'}); }
"""

_WHOLE = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class PhotoEditor:
    """Its components."""

    session: StudioSession
    panel: gr.Column
    preview: gr.HTML
    photo: gr.State
    """The photo that is open: name, link, size_hw, crop and caption as they were; empty for none."""
    shape: gr.Radio
    size: gr.Slider
    across: gr.Slider
    down: gr.Slider
    caption: gr.Textbox
    keep: gr.Button
    automatic: gr.Button

    @property
    def outputs(self) -> list[Any]:
        """Every component that ``opened`` and ``closed`` update."""
        return [self.panel, self.preview, self.photo, *self._crop(), self.caption]

    def fields(self) -> set[Any]:
        """Return the components that ``note`` reads."""
        return {self.photo, *self._crop(), self.caption}

    def _crop(self) -> list[Any]:
        return [self.shape, self.size, self.across, self.down]

    def closed(self) -> Updates:
        """Return the updates that close it."""
        return {self.panel: gr.Column(visible=False), self.photo: {}}

    def opened(self, job: JobView, verdict: Mapping[str, Any], edits: Edits) -> Updates:
        """Return the updates that open a photo."""
        name = verdict["name"]
        crop = edits.crops.get(name) or verdict.get("crop") or _WHOLE
        rows = job.result["photos"] if job.result else ()
        caption = edits.captions.get(name) or next(
            (_in_short(row["caption"]) for row in rows if row["name"] == name), ""
        )
        size_hw = _size_of(verdict)
        is_square, size, across, down = sliders_of(crop, size_hw)
        link = files.linker(self.session, job.id)(verdict["original"])
        photo = {"name": name, "link": link, "size_hw": size_hw, "crop": list(crop), "caption": caption}
        photo["sliders"] = [words.PHOTO_SHAPES[not is_square], size, across, down]
        return {
            self.panel: gr.Column(visible=True),
            self.photo: photo,
            self.preview: parts_photos.crop_preview(link, name, crop),
            **dict(zip(self._crop(), photo["sliders"], strict=True)),
            self.caption: caption,
        }

    def note(self, given: Mapping[Any, Any], edits: Edits) -> None:
        """Add what was changed of the open photo to the edits."""
        photo = given[self.photo]
        if not photo:
            return
        if photo["sliders"] is None:
            edits.crops[photo["name"]] = None
        elif [given[part] for part in self._crop()] != photo["sliders"]:
            edits.crops[photo["name"]] = _shares(photo, *(given[part] for part in self._crop()))
        caption = (given[self.caption] or "").strip()
        if caption and caption != photo["caption"]:
            edits.captions[photo["name"]] = caption

    def without_crop(self, handler: Callable[[dict[Any, Any]], Updates]) -> Callable[[dict[Any, Any]], Updates]:
        """Return a handler that takes the user's crop back, and then does what ``handler`` does."""

        def automatic(given: dict[Any, Any]) -> Updates:
            photo = given[self.photo]
            return handler({**given, self.photo: {**photo, "sliders": None} if photo else {}})

        return automatic


def photo_editor(session: StudioSession) -> PhotoEditor:
    """Build the part, closed, in the current layout."""
    with gr.Column(visible=False, elem_id="ls-photo-editor", elem_classes="ls-tight") as panel:
        preview = gr.HTML(elem_id="ls-crop")
        shape = gr.Radio(list(words.PHOTO_SHAPES), value=words.PHOTO_SHAPES[0], label=words.PHOTO_SHAPE)
        with gr.Row():
            size = gr.Slider(10, 100, value=100, step=0.1, label=words.PHOTO_SIZE, min_width=120, buttons=[])
            across = gr.Slider(0, 100, value=50, step=0.1, label=words.PHOTO_ACROSS, min_width=120, buttons=[])
            down = gr.Slider(0, 100, value=50, step=0.1, label=words.PHOTO_DOWN, min_width=120, buttons=[])
        caption = gr.Textbox(label=words.PHOTO_CAPTION, info=words.PHOTO_CAPTION_INFO, max_lines=2)
        with gr.Row():
            keep = gr.Button(words.PHOTO_KEEP, variant="primary", min_width=120)
            automatic = gr.Button(words.PHOTO_AUTOMATIC, min_width=120)
            close = gr.Button(words.PHOTO_CLOSE, min_width=80)
    editor = PhotoEditor(
        session, panel, preview, gr.State({}), shape, size, across, down, caption, keep=keep, automatic=automatic
    )

    def on_moved(photo: dict[str, Any], *sliders: Any) -> Any:
        if not photo:
            return gr.skip()
        # Before anything is moved, the frame is what the check has used, to the pixel.
        crop = photo["crop"] if list(sliders) == photo["sliders"] else _shares(photo, *sliders)
        return parts_photos.crop_preview(photo["link"], photo["name"], crop)

    parts = [shape, size, across, down]
    moved = [shape.change, size.change, across.change, down.change]
    gr.on(moved, on_moved, [editor.photo, *parts], preview, **QUIET)
    close.click(editor.closed, None, [panel, editor.photo], **QUIET)
    preview.change(None, js=_INTO_SIGHT, api_visibility="private")
    return editor


def _in_short(caption: str) -> str:
    """Return what a caption says beside that it is a photo of the subject; the check puts that in front again."""
    plain = "photo of {instance_token} {class_noun}"
    return caption.removeprefix(plain).lstrip(", ") if caption.startswith(plain) else caption


def _size_of(verdict: Mapping[str, Any]) -> list[int]:
    return list(verdict.get("size_hw") or (1, 1))


def _shares(photo: Mapping[str, Any], shape: str, size: float, across: float, down: float) -> Any:
    is_square = shape == words.PHOTO_SHAPES[0]
    return crop_shares(photo["size_hw"], is_square=is_square, size=size, across=across, down=down)
