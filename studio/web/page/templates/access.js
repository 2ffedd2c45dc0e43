// The page is shown when it is whole, so that nothing jumps; and names for screen readers where Gradio gives none, or
// only "Click to upload" and "Thumbnail 1": what stands beside it.
(() => {
  const SOON_MS = 150, DRAWN_MS = 600, OPENING_MS = 5000;

  // What there is of the visitor comes with the first answer; until then neither the tabs' content nor what stands
  // below it is seen.
  const opening = document.createElement('style');
  const UNSEEN = '[role=tabpanel], [data-testid=status-tracker], .block:has(.ls-foot), #ls-forget-open';
  opening.textContent = `${UNSEEN} { visibility: hidden; }`;
  document.head.append(opening);
  setTimeout(() => opening.remove(), OPENING_MS);
  const isAnswered = () => performance.getEntriesByType('resource').some(({name}) => name.includes('/gradio_api/run/'));

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

  let waiting = 0, isDrawing = false;
  new MutationObserver(() => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      name();
      if (!opening.isConnected || !isAnswered()) return;
      if (isDrawing) opening.remove(); // this was the answer being drawn
      else setTimeout(() => opening.remove(), DRAWN_MS);
      isDrawing = true;
    }, SOON_MS);
  }).observe(document.documentElement, {childList: true, subtree: true});
})();
