// What a press shows before the server answers, and where the answer is shown: the page's own script, without Gradio.
(() => {
  const BUTTON = '[role=tabpanel] button.lg', SETTLE_MS = 60, TOAST_MS = 7000;
  const busy = new Map(); // button -> when it was pressed

  const isSeen = (part) => {
    const box = part.getBoundingClientRect();
    return box.height > 0 && box.top >= 0 && box.top < innerHeight - 40;
  };
  const calm = matchMedia('(prefers-reduced-motion: reduce)');
  const show = (part, block) => part.scrollIntoView({block, behavior: calm.matches ? 'instant' : 'smooth'});

  function toast(text) {
    document.querySelector('.ls-toast')?.remove();
    const note = document.createElement('div');
    note.className = 'ls ls-toast';
    note.setAttribute('role', 'status');
    note.textContent = text;
    document.querySelector('.gradio-container').append(note);
    setTimeout(() => note.remove(), TOAST_MS);
  }

  function forget(panel) {
    for (const note of panel.querySelectorAll('.ls-wrong')) note.remove();
    for (const field of panel.querySelectorAll('[aria-invalid]')) field.removeAttribute('aria-invalid');
  }

  // An error is said once more beside the field that it names; the fields that are folded away are opened.
  function besideFields(answer) {
    for (const line of answer.querySelectorAll('[data-field]')) {
      const field = document.getElementById(line.dataset.field);
      if (!field || field.querySelector('.ls-wrong')) continue;
      for (let at = field.parentElement; at; at = at.parentElement) {
        const fold = at.matches('.ls-folded') && at.previousElementSibling;
        fold?.querySelector('button[aria-expanded=false]')?.click();
      }
      const note = document.createElement('div');
      note.className = 'ls ls-wrong';
      note.textContent = line.dataset.says;
      field.append(note);
      const input = field.querySelector('input, textarea');
      input?.setAttribute('aria-invalid', 'true');
      input?.addEventListener('input', () => { note.remove(); input.removeAttribute('aria-invalid'); }, {once: true});
    }
  }

  function answered(button) {
    const panel = button.closest('[role=tabpanel]');
    const answer = panel?.querySelector('.ls-answer'), status = panel?.querySelector('.ls-status');
    if (!answer || !button.closest('.ls-form') || !button.checkVisibility()) return;
    if (answer.innerText.trim()) {
      besideFields(answer);
      if (isSeen(button)) show(answer, 'nearest');
      else toast(answer.innerText.trim());
    } else if (status && !isSeen(status)) {
      show(status.closest('.ls-job') || status, 'start');
    }
  }

  document.addEventListener('click', (event) => {
    const button = event.target.closest?.(BUTTON);
    if (!button || button.disabled) return;
    forget(button.closest('[role=tabpanel]'));
    button.setAttribute('aria-busy', 'true');
    busy.set(button, performance.now());
  }, {capture: true});

  // Every press is one request of its own; when it is over, Gradio has the answer and shows it.
  new PerformanceObserver((list) => {
    for (const request of list.getEntries()) {
      if (!request.name.includes('/gradio_api/run/')) continue;
      for (const [button, since] of busy) {
        if (request.startTime < since) continue;
        busy.delete(button);
        setTimeout(() => { button.removeAttribute('aria-busy'); answered(button); }, SETTLE_MS);
      }
    }
  }).observe({type: 'resource'});
})();
