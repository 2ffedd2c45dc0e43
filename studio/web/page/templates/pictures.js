// Pictures in their own size over the page, with keys to go on; and a button that writes a word where the cursor is.
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
    if (!dialog.open) dialog.showModal();
  }

  function step(by) {
    const all = links(), at = all.findIndex((link) => link.href === shown);
    const next = all[at + by];
    if (next) show(next);
  }

  document.addEventListener('click', (event) => {
    const link = event.target.closest?.('[data-look] a');
    if (link && !(event.ctrlKey || event.metaKey || event.shiftKey)) {
      event.preventDefault();
      show(link);
      return;
    }
    const dialog = viewer();
    const button = event.target.closest?.('.ls-viewer [data-step]');
    if (button && button.dataset.step !== '0') step(Number(button.dataset.step));
    else if (button || event.target === dialog) dialog.close();
    const chip = event.target.closest?.('[data-insert]');
    if (chip) insert(chip.dataset.insert, document.querySelector(`#${chip.dataset.into} textarea`));
  });

  document.addEventListener('keydown', (event) => {
    if (!viewer()?.open) return;
    if (event.key === 'ArrowLeft') step(-1);
    if (event.key === 'ArrowRight') step(1);
  });

  function insert(text, field) {
    field.focus();
    field.setRangeText(text, field.selectionStart, field.selectionEnd, 'end');
    field.dispatchEvent(new Event('input', {bubbles: true}));
  }
})();
