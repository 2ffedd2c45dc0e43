// Pictures in their own size over the page, with keys to go on; the strip of checkpoints; a button that writes a word
// where the cursor is.
(() => {
  let shown = null; // the link whose picture is shown, by its address: the grid may be drawn anew meanwhile

  const viewer = () => document.querySelector('.ls-viewer');
  const links = () => [...document.querySelectorAll('[data-look] a')].filter((link) => link.checkVisibility());

  function show(link) {
    const dialog = viewer();
    shown = link.href;
    const image = dialog.querySelector('img'), caption = link.parentElement.querySelector('figcaption').textContent;
    image.src = link.href;
    image.alt = caption;
    const all = links();
    dialog.querySelector('p').textContent = `${all.indexOf(link) + 1} / ${all.length} · ${caption}`;
    dialog.querySelector('a').href = link.href;
    const heart = heartOf(link);
    const liked = dialog.querySelector('[data-like]');
    liked.hidden = !heart;
    if (heart) liked.setAttribute('aria-pressed', heart.getAttribute('aria-pressed'));
    if (!dialog.open) dialog.showModal();
  }

  function step(by) {
    const all = links(), at = all.findIndex((link) => link.href === shown);
    const next = all[at + by];
    if (next) show(next);
  }

  const heartOf = (link) => link.parentElement.querySelector('[data-heart]');

  // The heart of the picture that is shown large is that of its thumbnail.
  function like() {
    const link = [...document.querySelectorAll('[data-look] a')].find((one) => one.href === shown && heartOf(one));
    if (!link) return;
    heartOf(link).click();
    viewer().querySelector('[data-like]').setAttribute('aria-pressed', heartOf(link).getAttribute('aria-pressed'));
  }

  function count(part) {
    const hearts = part.querySelectorAll('[data-heart][aria-pressed=true]').length, only = part.querySelector('[data-only]');
    only.querySelector('b').textContent = hearts;
    if (!hearts && only.getAttribute('aria-pressed') === 'true') only.click(); // else nothing would be left to see
  }

  document.addEventListener('click', (event) => {
    const link = event.target.closest?.('[data-look] a');
    if (link && !(event.ctrlKey || event.metaKey || event.shiftKey)) {
      event.preventDefault();
      show(link);
      return;
    }
    const dialog = viewer();
    const only = event.target.closest?.('[data-only]');
    if (only) {
      const on = only.getAttribute('aria-pressed') !== 'true';
      only.setAttribute('aria-pressed', on);
      only.closest('.ls').querySelector('.ls-grid').classList.toggle('ls-loved', on);
    }
    const heart = event.target.closest?.('[data-heart]');
    if (heart) count(heart.closest('.ls'));
    if (event.target.closest?.('[data-like]')) like();
    const button = event.target.closest?.('.ls-viewer [data-step]');
    if (button && button.dataset.step !== '0') step(Number(button.dataset.step));
    else if (button || event.target === dialog) dialog.close();
    const frame = event.target.closest?.('[data-frame]');
    if (frame) {
      frame.setAttribute('aria-pressed', 'true');
      pressed = frame.dataset.frame;
    }
    const chip = event.target.closest?.('[data-insert]');
    if (chip) insert(chip.dataset.insert, document.querySelector(`#${chip.dataset.into} textarea`));
  });

  document.addEventListener('keydown', (event) => {
    if (!viewer()?.open) return;
    if (event.key === 'ArrowLeft') step(-1);
    if (event.key === 'ArrowRight') step(1);
    if (event.key === 'h') like();
  });

  // A strip that is drawn anew stays where it was scrolled to, and keeps the focus for whoever uses keys.
  let pressed = null, scrolled = 0;
  document.addEventListener('scroll', (event) => {
    if (event.target.matches?.('.ls-film')) scrolled = event.target.scrollLeft;
  }, {capture: true, passive: true});
  new MutationObserver(() => {
    for (const strip of document.querySelectorAll('.ls-film:not([data-placed])')) {
      strip.dataset.placed = '';
      strip.scrollLeft = scrolled;
      const lost = pressed !== null && document.activeElement === document.body;
      if (lost) strip.querySelector(`[data-frame="${pressed}"]`)?.focus({preventScroll: true});
    }
  }).observe(document.documentElement, {childList: true, subtree: true});

  function insert(text, field) {
    field.focus();
    field.setRangeText(text, field.selectionStart, field.selectionEnd, 'end');
    field.dispatchEvent(new Event('input', {bubbles: true}));
  }
})();
