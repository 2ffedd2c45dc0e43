// What a press shows before the server answers, and where the answer is shown: the page's own script, without Gradio.
(() => {
  const BUTTON = '[role=tabpanel] button:is(.lg, .thumbnail-item, .ls-actions *), #ls-forget-open, #ls-forget button';
  const LOOK_MS = 50, DRAWN_MS = 1500, ASKED_MS = 1000, TOAST_MS = 7000;
  const busy = new Map(); // button -> when it was pressed, what its tab showed then, and whether the server was asked

  const isSeen = (part) => {
    const box = part.getBoundingClientRect();
    return box.height > 0 && box.top > -2 && box.top < innerHeight - 40;
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
        const fold = at.matches('.ls-folded') ? at.previousElementSibling : null;
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

  const panelOf = (button) => button.closest('[role=tabpanel]') ?? document.body; // the last stand below all tabs
  const shown = (button) => [...panelOf(button).querySelectorAll(
    '.ls-answer .ls, .ls-status .ls, .ls-chosen img, .ls-crop img, #ls-shelf .ls, #ls-forget')].map((part) => part.src ?? part.innerHTML).join();

  // The answer is here; Gradio draws it a little later, or not at all where it changes nothing.
  function settle(button, before, until) {
    if (button.isConnected && button.checkVisibility() && shown(button) === before && performance.now() < until) {
      setTimeout(() => settle(button, before, until), LOOK_MS);
      return;
    }
    button.removeAttribute('aria-busy');
    if (button.isConnected && button.checkVisibility()) answered(button);
  }

  function answered(button) {
    const panel = panelOf(button);
    const answer = panel.querySelector('.ls-answer'), status = panel.querySelector('.ls-status');
    const chosen = panel.querySelector('.ls-chosen');
    if (chosen && button.closest('.ls-chooser')) {
      if (!isSeen(chosen)) show(chosen, 'nearest');
      return;
    }
    if (!answer || !button.closest('.ls-form')) return;
    const said = answer.querySelector('.ls'); // without it, there is only what Gradio hides
    if (said) {
      const watched = isSeen(button); // folds that open above it push it away
      besideFields(answer);
      if (watched) show(answer, 'nearest');
      else toast(said.innerText.trim());
    } else if (status && !isSeen(status)) {
      show(status.closest('.ls-job') || status, 'start');
    }
  }

  document.addEventListener('click', (event) => {
    const button = event.target.closest?.(BUTTON);
    if (!button || button.disabled) return;
    forget(panelOf(button));
    button.setAttribute('aria-busy', 'true');
    const press = {since: performance.now(), before: shown(button), isAsked: false};
    busy.set(button, press);
    // A press may ask for nothing: that of a picture that is chosen already.
    setTimeout(() => {
      if (press.isAsked || busy.get(button) !== press) return;
      busy.delete(button);
      button.removeAttribute('aria-busy');
    }, ASKED_MS);
  }, {capture: true});

  // The request of a press names what was pressed; others, of a field or the clock, may end earlier and answer nothing.
  function isPress({trigger_id: trigger, event_data: told}) {
    const part = window.gradio_config?.components?.find((one) => one.id === trigger);
    // Of HTML, a press tells what was pressed in it; other events of it tell nothing.
    return !part || part.type === 'button' || part.type === 'gallery' || (part.type === 'html' && told);
  }

  const ask = window.fetch;
  window.fetch = (...request) => {
    const begun = performance.now(), answer = ask(...request), body = request[1]?.body;
    if (String(request[0]?.url ?? request[0]).includes('/gradio_api/run/') && typeof body === 'string') {
      const isOfPress = isPress(JSON.parse(body));
      if (isOfPress) for (const press of busy.values()) press.isAsked = true;
      const over = () => {
        for (const [button, {since, before}] of busy) {
          if (begun < since || !isOfPress) continue;
          busy.delete(button);
          settle(button, before, performance.now() + DRAWN_MS);
        }
      };
      answer.then(over, over);
    }
    return answer;
  };
})();
