// Names for screen readers where Gradio gives none, or only "Click to upload" and "Thumbnail 1": what stands beside it.
(() => {
  const SOON_MS = 150;
  const textOf = (part) => (part?.innerText ?? '').trim();
  const NAMES = [
    ['fieldset', (group) => textOf(group.querySelector('[data-testid=block-info]'))],
    ['.upload-container', (upload) => textOf(upload.closest('.block')?.querySelector('[data-testid=block-label]'))],
    ['.upload-container input', (field) => textOf(field.closest('.block')?.querySelector('[data-testid=block-label]'))],
    ['.gallery-item button, button.gallery-item', (thumbnail) => textOf(thumbnail.querySelector('.caption-label'))],
  ];

  function name() {
    for (const [parts, named] of NAMES) {
      for (const part of document.querySelectorAll(parts)) {
        const text = named(part);
        if (text && part.ariaLabel !== text) part.ariaLabel = text;
      }
    }
  }

  let waiting = 0;
  new MutationObserver(() => {
    clearTimeout(waiting);
    waiting = setTimeout(name, SOON_MS);
  }).observe(document.documentElement, {childList: true, subtree: true});
})();
