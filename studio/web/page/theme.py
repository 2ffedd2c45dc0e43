"""The theme and style sheet: greys that leave colour to the pictures, one accent, fonts that Gradio ships (no CDN)."""

from pathlib import Path

import gradio as gr
from gradio.themes.utils import colors, sizes
from gradio.themes.utils.fonts import LocalFont

from studio.web.page import words

_ACCENT = colors.Color(
    name="petrol",
    c50="#eef6f6",
    c100="#d6e8e9",
    c200="#aed2d5",
    c300="#7fb5ba",
    c400="#4f949b",
    c500="#32777f",
    c600="#265f67",
    c700="#1f4d54",
    c800="#1a3f45",
    c900="#153338",
    c950="#0c2024",
)


def theme() -> gr.themes.Base:
    """Return the studio's theme, light and dark."""
    return gr.themes.Base(
        primary_hue=_ACCENT,
        secondary_hue=_ACCENT,
        neutral_hue=colors.stone,
        radius_size=sizes.radius_md,
        spacing_size=sizes.spacing_md,
        text_size=sizes.text_md,
        # The other small sans fonts that Gradio carries hold only a part of the alphabet.
        font=(LocalFont("Source Sans Pro", weights=(400, 700)), "system-ui", "sans-serif"),
        font_mono=("ui-monospace", "Menlo", "Consolas", "monospace"),
    ).set(
        body_background_fill="#f6f5f3",
        body_background_fill_dark="#171615",
        body_text_color="*neutral_800",
        body_text_color_subdued="#6b655f",
        body_text_color_subdued_dark="#a8a29e",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#1f1e1c",
        background_fill_secondary="#faf9f8",
        background_fill_secondary_dark="#262422",
        border_color_primary="#e3dfda",
        border_color_primary_dark="#383532",
        block_background_fill="#ffffff",
        block_background_fill_dark="#1f1e1c",
        block_border_width="1px",
        block_shadow="none",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        block_label_text_color="*body_text_color_subdued",
        block_title_text_color="*body_text_color",
        block_title_text_weight="600",
        block_info_text_color="*body_text_color_subdued",
        block_info_text_color_dark="*body_text_color_subdued",
        block_info_text_size="13px",
        input_background_fill="#ffffff",
        input_background_fill_dark="#262422",
        input_border_width="1px",
        input_shadow="none",
        input_shadow_focus="0 0 0 3px *primary_100",
        input_shadow_focus_dark="0 0 0 3px *primary_900",
        input_border_color_focus="*primary_500",
        button_transition="background-color .15s ease, border-color .15s ease",
        button_large_radius="8px",
        button_large_text_weight="600",
        button_primary_background_fill="*neutral_900",
        button_primary_background_fill_hover="*neutral_700",
        button_primary_background_fill_dark="*neutral_100",
        button_primary_background_fill_hover_dark="#ffffff",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="*neutral_900",
        button_primary_border_color="transparent",
        button_primary_border_color_dark="transparent",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_hover="#f1efec",
        button_secondary_background_fill_dark="#262422",
        button_secondary_background_fill_hover_dark="#33302d",
        button_secondary_border_color="#d6d1ca",
        button_secondary_border_color_dark="#48443f",
        button_border_width="1px",
        loader_color="*primary_500",
        slider_color="*primary_500",
        slider_color_dark="*primary_400",
        checkbox_background_color_selected="*primary_600",
        checkbox_border_color_selected="*primary_600",
        color_accent_soft="*primary_50",
        color_accent_soft_dark="*primary_950",
    )


CSS = """
:root { --ls-good: #3f7d4f; --ls-fair: #946014; --ls-bad: #b23b32; --ls-bad-text: #a3332b;
  --ls-serif: 'Iowan Old Style', 'Palatino Linotype', Palatino, 'Book Antiqua', Georgia, serif; }
.dark { --ls-good: #74b585; --ls-fair: #dda74f; --ls-bad: #e0786f; --ls-bad-text: #ee968e; }
.ls { --ls-line: var(--border-color-primary); --ls-soft: var(--body-text-color-subdued); }
.gradio-container { overflow: clip !important; width: 100% !important; max-width: 1160px !important;
  margin: 0 auto !important;  padding: 0 clamp(10px, 3vw, 24px) 48px !important; }
.gradio-container .block:has(> .html-container > .prose:empty) { display: none !important; }
.gradio-container .html-container { padding: 0 !important; }
.gradio-container .ls { font-size: 15px; line-height: 1.5; color: var(--body-text-color); }
.ls p { margin: 0 0 8px; }
.gradio-container .ls ul { margin: 6px 0 0; padding-left: 18px; list-style: disc; }
.gradio-container .ls li { margin: 3px 0; }
.dark .ls a:not(.ls-button) { color: #8fc6cb; }
.ls a.ls-button { display: inline-block; padding: 9px 16px; border: 1px solid var(--button-secondary-border-color);
  border-radius: 8px; font-weight: 600; color: var(--body-text-color); text-decoration: none;
  background: var(--button-secondary-background-fill); margin: 0 8px 8px 0; }
.gradio-container .ls p.ls-links { margin: 12px 0 0; }
.ls a.ls-button:hover { background: var(--button-secondary-background-fill-hover); }
.ls a.ls-button.ls-first { background: var(--button-primary-background-fill);
  color: var(--button-primary-text-color); border-color: transparent; }
.ls-head { display: flex; align-items: baseline; gap: 14px; flex-wrap: wrap; padding: 22px 2px 2px; }
.ls-head h1 { font-family: var(--ls-serif); font-size: 27px; font-weight: 600; letter-spacing: -.01em; margin: 0;
  color: var(--body-text-color); }
.ls-head span { color: var(--ls-soft); font-size: 16px; }
.ls-account { margin-left: auto; display: flex; align-items: baseline; gap: 10px; font-size: 14px; min-height: 34px;
  overflow-wrap: anywhere; }
.ls-account b { font-weight: 500; color: var(--ls-soft); }
.gradio-container .ls-account button { margin: 0; padding: 5px 12px; border-radius: 8px; white-space: nowrap;
  border: 1px solid var(--button-secondary-border-color); color: var(--body-text-color);
  background: var(--button-secondary-background-fill); cursor: pointer; }
.ls h2 { font-family: var(--ls-serif); font-size: 20px; font-weight: 600; margin: 0 0 6px; line-height: 1.3;
  color: var(--body-text-color); }
.ls h3 { font-size: 13px; font-weight: 600; margin: 20px 0 8px; color: var(--ls-soft); }
.ls-soft { color: var(--ls-soft); }
.ls-card { background: var(--block-background-fill); border: 1px solid var(--ls-line); border-radius: 10px;
  padding: 18px 20px; }
.ls-empty { border: 1px dashed var(--ls-line); border-radius: 10px; padding: 34px 30px; }
.ls-empty ul { color: var(--ls-soft); }
.ls-notice { border-radius: 10px; padding: 13px 16px; margin: 0 0 12px; border: 1px solid var(--ls-line);
  border-left: 4px solid var(--ls-fair); background: var(--block-background-fill); overflow-wrap: anywhere; }
.ls-notice.bad { border-left-color: var(--ls-bad); }
.ls-notice.good { border-left-color: var(--ls-good); }
.ls-notice b { font-weight: 600; }
.ls-cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(170px, 1fr)); gap: 14px; margin-top: 14px; }
.ls-photo { background: var(--block-background-fill); border: 1px solid var(--ls-line); border-radius: 10px;
  overflow: hidden; display: flex; flex-direction: column; }
.ls-photo .ls-frame { position: relative; aspect-ratio: 1; background: var(--background-fill-secondary);
  display: flex; align-items: center; justify-content: center; color: var(--ls-soft); font-size: 13px; }
.ls-photo img { width: 100%; height: 100%; object-fit: contain; display: block; margin: 0; }
.ls-mark { position: absolute; top: 8px; left: 8px; font-size: 12px; font-weight: 600; color: #fff; line-height: 1;
  padding: 5px 9px; border-radius: 99px; background: var(--mark); }
.dark .ls-mark { color: #171615; }
.good { --mark: var(--ls-good); } .usable { --mark: var(--ls-fair); } .rejected { --mark: var(--ls-bad); }
.ls-photo .ls-words { padding: 10px 12px 12px; font-size: 13.5px; line-height: 1.4; overflow-wrap: anywhere; }
.ls-photo .ls-name { font-weight: 600; display: block; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.ls-photo .ls-problem { margin: 6px 0 0; }
.new { --mark: var(--ls-soft); }
.ls-photo.rejected img { opacity: .45; filter: grayscale(.6); }
.ls-will { position: absolute; inset: auto 0 0 0; padding: 6px 9px; font-size: 12.5px; font-weight: 600; color: #fff;
  background: rgb(20 20 20 / .78); }
.ls-actions { display: flex; flex-wrap: wrap; gap: 6px; margin-top: 9px; }
.gradio-container .ls-actions button { margin: 0; border: 1px solid var(--button-secondary-border-color);
  border-radius: 6px; padding: 5px 9px; min-height: 32px; font-size: 13px; color: var(--body-text-color);
  background: var(--button-secondary-background-fill); cursor: pointer; }
.ls-actions button:hover { background: var(--button-secondary-background-fill-hover); }
.ls-crop { position: relative; display: inline-block; max-width: 100%; overflow: hidden; border-radius: 8px;
  line-height: 0; }
.gradio-container .ls-crop img { max-width: 100%; max-height: 46vh; margin: 0; display: block; }
.ls-crop i { position: absolute; border: 2px solid #fff; box-shadow: 0 0 0 2000px rgb(0 0 0 / .55); }
.ls-meter { height: 4px; border-radius: 2px; background: var(--ls-line); margin-top: 5px; overflow: hidden; }
.ls-meter i { display: block; height: 100%; background: var(--mark, var(--primary-500)); }
.ls-bar { height: 8px; border-radius: 4px; background: var(--ls-line); overflow: hidden; margin: 12px 0 8px; }
.ls-bar i { display: block; height: 100%; border-radius: 4px; background: var(--primary-500); transition: width .6s; }
.ls-bar.waiting i { width: 30%; animation: ls-wait 1.6s ease-in-out infinite alternate; }
@keyframes ls-wait { from { margin-left: 0; } to { margin-left: 70%; } }
@media (prefers-reduced-motion: reduce) { .ls-bar.waiting i { animation: none; } .ls-bar i { transition: none; } }
.ls-row { display: flex; justify-content: space-between; gap: 12px; flex-wrap: wrap;
  font-variant-numeric: tabular-nums; }
.ls-big { font-family: var(--ls-serif); font-size: 34px; line-height: 1.1; font-weight: 600; margin-bottom: 8px; }
.ls-intro { display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 6fr); gap: 6px 26px; align-items: center; }
.ls-intro figure { margin: 0; }
.gradio-container .ls-intro img { width: 100%; height: auto; border-radius: 8px; margin: 0; display: block; }
.ls-intro figcaption { display: grid; grid-template-columns: 332fr 120fr 206fr; font-size: 12.5px;
  color: var(--ls-soft); margin-top: 3px; white-space: nowrap; }
.gradio-container .ls-intro ol { margin: 0; padding-left: 20px; list-style: decimal; font-size: 14.5px; }
.gradio-container .ls-intro li { margin: 1px 0; }
.ls-intro > p { margin: 0; font-size: 14px; grid-column: 1 / -1; }
.ls-notice code { font-size: 12.5px; overflow-wrap: anywhere; }
.ls-scale { margin: 10px 0 12px; max-width: 460px; }
.ls-scale > div { position: relative; height: 10px; border-radius: 5px; background: var(--ls-line); }
.ls-scale i, .ls-scale b { position: absolute; top: 0; bottom: 0; border-radius: 5px; }
.ls-scale i { background: var(--ls-good); opacity: .38; } .ls-scale b { width: 4px; margin-left: -2px; top: -4px;
  bottom: -4px; background: var(--ls-good); }
.ls-scale p { display: flex; justify-content: space-between; font-size: 12.5px; color: var(--ls-soft);
  margin: 6px 0 0; }
.ls-charts { display: grid; grid-template-columns: 1fr 1fr; gap: 14px; margin-top: 14px; }
.ls-chart { background: var(--block-background-fill); border: 1px solid var(--ls-line); border-radius: 10px;
  padding: 14px 16px 10px; }
.ls-chart .ls-row b { font-size: 14px; } .ls-chart svg { display: block; width: 100%; height: 132px; margin-top: 8px;
  overflow: visible; }
.ls-chart .ls-axis { font-size: 12px; color: var(--ls-soft); }
.ls-samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 10px; }
.ls-samples a, .ls-samples span { display: block; aspect-ratio: 1; border-radius: 8px; overflow: hidden;
  background: var(--background-fill-secondary); position: relative; }
.gradio-container .ls-samples img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: cover;
  margin: 0; }
.ls-grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 14px 12px; }
.ls-grid figure { margin: 0; min-width: 0; content-visibility: auto; contain-intrinsic-size: auto 190px; }
.gradio-container .ls-grid :is(a, button) { display: block; width: 100%; aspect-ratio: 1; margin: 0; padding: 0;
  border: none; border-radius: 8px; overflow: hidden; background: var(--background-fill-secondary); cursor: pointer; }
.ls-grid :is(a, button):focus-visible { outline: 2px solid var(--primary-500); outline-offset: -2px; }
.gradio-container .ls-grid img { width: 100%; height: 100%; object-fit: contain; display: block; margin: 0; }
.ls-grid figcaption { font-size: 13px; line-height: 1.35; color: var(--ls-soft); padding: 5px 2px 0;
  overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.gradio-container .ls-viewer { border: none; border-radius: 12px; padding: 14px; margin: auto; max-width: 96vw;
  max-height: 96vh; background: var(--block-background-fill); color: var(--body-text-color); }
.gradio-container .ls-viewer[open] { display: flex; flex-direction: column; }
.ls-viewer::backdrop { background: rgb(0 0 0 / .72); }
.gradio-container .ls-viewer img { display: block; margin: 0 auto; max-width: 100%; object-fit: contain;
  width: min(1024px, 92vw); height: min(1024px, 92vw); flex: 0 1 auto; min-height: 0; }
.ls-viewer :is(p, div) { flex: none; }
.ls-viewer p { margin: 8px 0; max-width: min(1024px, 92vw); text-align: center; overflow-wrap: anywhere; }
.ls-viewer > div { display: flex; flex-wrap: wrap; gap: 8px; justify-content: center; }
.gradio-container .ls-viewer :is(button, a.ls-button), .gradio-container .ls-chip { margin: 0; padding: 7px 14px;
  border: 1px solid var(--button-secondary-border-color); border-radius: 8px; font-weight: 600; font-size: 14px;
  color: var(--body-text-color); background: var(--button-secondary-background-fill); cursor: pointer; }
.gradio-container .ls-chip { padding: 4px 12px; border-radius: 99px; min-height: 32px; }
.gradio-container .ls-packs .wrap { display: grid; grid-template-columns: repeat(auto-fill, minmax(104px, 1fr));
  gap: 8px; max-height: 372px; overflow-y: auto; padding: 3px; }
.gradio-container .ls-packs label { display: flex; flex-direction: column; align-items: stretch; gap: 0; margin: 0;
  padding: 0; overflow: hidden; position: relative; border: 2px solid var(--border-color-primary); border-radius: 8px;
  background: var(--block-background-fill); cursor: pointer; }
.ls-packs label::before { content: ''; height: 76px; flex: none; }
.gradio-container .ls-packs label span { margin: 0; padding: 5px 7px 6px; white-space: pre-line; font-size: 12.5px;
  line-height: 1.3; overflow-wrap: anywhere; color: var(--body-text-color); }
.gradio-container .ls-packs input { position: absolute; top: 7px; left: 7px; margin: 0; }
.gradio-container .ls-packs label:has(input:checked) { border-color: var(--primary-500); }
.ls-shots { margin: 8px 0 0; padding: 0; list-style: none; columns: 2; column-gap: 22px; font-size: 13.5px; }
.gradio-container .ls .ls-shots { padding-left: 0; list-style: none; }
.ls-shots li { break-inside: avoid; color: var(--ls-soft); }
.ls-pack > i { display: block; height: 6px; border-radius: 3px; margin-bottom: 8px; }
.ls-tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 6px; margin: 0 0 8px; }
.ls-tiles span { display: block; border: 1px solid var(--ls-line); border-radius: 8px; overflow: hidden;
  background: var(--background-fill-secondary); font-size: 12px; line-height: 1.3; text-align: center; }
.gradio-container .ls-tiles img { width: 100%; aspect-ratio: 1; object-fit: cover; display: block; margin: 0; }
.ls-tiles em { display: block; font-style: normal; padding: 6px 4px; color: var(--ls-soft);
  overflow-wrap: anywhere; }
.ls-shelf { grid-template-columns: repeat(auto-fill, minmax(120px, 1fr)); }
.gradio-container .ls-shelf img { aspect-ratio: 1; object-fit: cover; }
.gradio-container .ls .ls-jobs { list-style: none; padding: 0; margin: 0; }
.gradio-container .ls .ls-jobs li { margin: 0; display: flex; justify-content: space-between; gap: 12px;
  flex-wrap: wrap; padding: 7px 0; border-bottom: 1px solid var(--ls-line); font-variant-numeric: tabular-nums; }
.ls-jobs a { margin: 0; padding: 0; color: var(--body-text-color); text-decoration: underline;
  text-underline-offset: 3px; }
.ls-table { overflow-x: auto; margin-top: 14px; }
.gradio-container .ls-table table { width: 100%; border-collapse: collapse; margin: 0; font-size: 14px;
  font-variant-numeric: tabular-nums; }
.gradio-container .ls-table :is(th, td) { text-align: left; font-weight: 400; padding: 7px 14px 7px 0; border: 0;
  border-bottom: 1px solid var(--ls-line); white-space: nowrap; }
.gradio-container .ls-table thead th { color: var(--ls-soft); font-size: 13px; }
.gradio-container .ls-table :is(table, thead, tbody, tr) { border: 0; }
.ls-table a { margin: 0; padding: 0; color: var(--body-text-color); text-decoration: underline;
  text-underline-offset: 3px; }
.ls-job, .ls-answer { scroll-margin: 12px; }
.ls-hint { font-size: 13.5px; color: var(--ls-soft); padding: 0 2px; }
#ls-card { overflow: visible !important; overflow-wrap: anywhere; }
#ls-card :is(pre, code) { white-space: pre-wrap; }
.ls-foot { color: var(--ls-soft); font-size: 13px; padding: 28px 2px 0; border-top: 1px solid var(--ls-line);
  margin-top: 28px; padding-top: 14px; }
.gradio-container .ls-foot a { margin: 0 14px 0 0; padding: 0; }
.ls-fold:has([aria-expanded="false"]) + .ls-folded { display: none !important; }
.gradio-container .ls-fold { padding: 0 !important; overflow: visible !important; }
.ls-fold button { display: flex; justify-content: space-between; align-items: center; width: 100%; padding: 11px 14px;
  border-radius: 8px; font-weight: 600; text-align: left; color: var(--body-text-color); cursor: pointer; }
.ls-fold button::after { content: '\\25be'; color: var(--ls-soft); transition: transform .15s; }
.ls-fold button[aria-expanded="false"]::after { transform: rotate(90deg); }
.gradio-container .ls-folded { gap: 10px !important; padding-left: 8px; }
.ls-tight { gap: 10px !important; }
.ls-go { align-self: flex-start; width: auto !important; min-width: 210px; }
.gradio-container button[aria-busy=true] { position: relative; cursor: progress; opacity: .72; }
button[aria-busy=true]::after { content: ''; width: 13px; height: 13px; margin-left: 10px; border-radius: 50%;
  flex: none; border: 2px solid currentColor; border-right-color: transparent; animation: ls-turn .8s linear infinite; }
@keyframes ls-turn { to { transform: rotate(1turn); } }
@media (prefers-reduced-motion: reduce) { button[aria-busy=true]::after { animation: none; border-style: dotted; } }
.ls-toast { position: fixed; right: 16px; bottom: 16px; z-index: 60; max-width: min(420px, calc(100vw - 32px));
  padding: 12px 16px; border-radius: 10px; border: 1px solid var(--ls-line); border-left: 4px solid var(--ls-fair);
  background: var(--block-background-fill); box-shadow: 0 6px 24px rgba(0, 0, 0, .18); white-space: pre-line; }
.gradio-container .ls-wrong { font-size: 13.5px; line-height: 1.4; color: var(--ls-bad-text); padding: 6px 2px 2px;
  overflow-wrap: anywhere; }
.gradio-container [aria-invalid=true] { border-color: var(--ls-bad) !important; }
.gradio-container .ls-answer .ls-notice { margin: 0; }
@media (min-width: 768px) {
  /* Of form and job, the shorter one stays in sight while the longer one is scrolled. */
  .ls-form.ls-form, .ls-job.ls-job { position: sticky; top: 12px; align-self: flex-start; }
}
.ls-plain { border: none !important; background: transparent !important; box-shadow: none !important; }
.gradio-container .tab-container button { font-size: 16px; }
.dark .tab-container button.selected { color: #8fc6cb !important; }
.gradio-container label:has(input:focus-visible), .gradio-container .ls-fold button:focus-visible,
.gradio-container .tab-container button:focus-visible { outline: 2px solid var(--primary-500); outline-offset: 2px; }
.dark label:has(input:focus-visible), .dark .ls-fold button:focus-visible,
.dark .tab-container button:focus-visible { outline-color: #8fc6cb !important; }
.ls-plain .grid-wrap { max-height: none; min-height: 0; overflow: visible; padding: 0; }
.ls-plain .grid-container { grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)) !important; gap: 12px; }
.gradio-container .secondary-wrap input { text-overflow: ellipsis !important; margin-right: 26px !important; }
.gradio-container .main.fillable { padding: 16px 0 !important; }
footer { display: none !important; }
@media (max-width: 640px) {
  .tab-container button { font-size: 14px; padding: 0 5px; }
  .ls-head { padding-top: 14px; gap: 2px 12px; } .ls-head h1 { font-size: 23px; } .ls-head span { font-size: 14.5px; }
  .ls-intro.ls-intro { grid-template-columns: 1fr; }
  .ls-intro.ls-intro figcaption { white-space: normal; line-height: 1.25; }
  .ls-cards { grid-template-columns: 1fr 1fr; gap: 10px; }
  .ls-charts { grid-template-columns: 1fr; }
  .ls-samples { grid-template-columns: repeat(4, 1fr); gap: 6px; }
  .ls-shots { columns: 1; } .ls-empty { padding: 24px 20px; }
}
"""
"""Style sheet of the HTML parts; colours come from the theme's variables, so that it fits light and dark mode."""

HEAD = "".join(
    f"<script>{(Path(__file__).parent / 'templates' / name).read_text(encoding='utf-8')}</script>"
    for name in ("press.js", "pictures.js", "access.js")
)
"""The page's own scripts: what a press shows before the server answers, pictures in their own size,
names for screen readers."""

CSS = CSS + (Path(__file__).parent / "templates" / "pictures.css").read_text(encoding="utf-8")
"""And that of what is chosen among pictures: checkpoints side by side, hearts, rows of strengths."""


def widget_words() -> dict[str, str]:
    """Return the texts of Gradio's own widgets that the page replaces, by Gradio's key."""
    return {
        "common.upload": words.MORE_FILES,
        "common.or": words.OR,
        "upload_text.drop_file": words.PHOTOS_DROP,
        "upload_text.click_to_upload": words.PHOTOS_CHOOSE,
    }
