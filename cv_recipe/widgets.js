// The view of cv_recipe's browser and quiz. It shows what Python says and says which key was pressed; whatever is decided is decided in Python.
// Text from files and tables reaches the page through textContent alone. Nothing is loaded from elsewhere.

const el = (tag, cls = '', text = '', at = {}) => {
  const e = document.createElement(tag); if (cls) e.className = cls; if (text !== '') e.textContent = text;
  for (const [k, v] of Object.entries(at)) e.setAttribute(k, v);
  return e;
};
const num = n => n.toLocaleString('en');
const urls = new WeakMap();
const show = (img, data) => {                      // bytes into an <img>; the former bytes are let go
  if (urls.has(img)) URL.revokeObjectURL(urls.get(img));
  const url = URL.createObjectURL(new Blob([data])); urls.set(img, url); img.src = url;
};
const fit = (text, classes, most) => {             // classes that begin with what was typed, then those that hold it
  const t = text.toLowerCase(), low = classes.map(c => [c, c.toLowerCase()]);
  const a = low.filter(([, l]) => l.startsWith(t)), b = low.filter(([, l]) => !l.startsWith(t) && l.includes(t));
  return [...a, ...b].slice(0, most).map(([c]) => c);
};
const keyHelp = (box, pairs) => { box.replaceChildren(); for (const [k, t] of pairs) { const s = el('span'); s.append(el('kbd', '', k), ' ' + t); box.append(s); } };

function frame(box, onKey) {                        // the part that has the keys; the notebook's own shortcuts stay out of it
  const root = el('div', 'cvr', '', { tabindex: 0, 'data-lm-suppress-shortcuts': 'true' });
  const guard = on => on ? root.setAttribute('data-lm-suppress-shortcuts', 'true') : root.removeAttribute('data-lm-suppress-shortcuts');
  root.addEventListener('keydown', e => {
    if (e.ctrlKey || e.metaKey || e.altKey || ['Control', 'Meta', 'Alt'].includes(e.key)) return guard(false);   // such as ctrl+s, which is the notebook's
    guard(true); e.stopPropagation();
    if (onKey(e, ['INPUT', 'SELECT', 'TEXTAREA'].includes(e.target.tagName))) e.preventDefault();
  });
  root.addEventListener('keyup', e => { if (!(e.ctrlKey || e.metaKey || e.altKey)) guard(true); });
  root.addEventListener('focusin', () => guard(true));
  root.addEventListener('mousedown', e => { e.stopPropagation(); if (!e.target.closest('input,select,button')) { e.preventDefault(); root.focus({ preventScroll: true }); } });
  box.append(root);
  return root;
}

function browse(model, box) {
  let about = null, page = null, at = 0, tiles = [], timer = 0, naming = null;
  const send = (what, more = {}) => model.send({ do: what, ...more });
  const root = frame(box, key), bar = el('div', 'cvr-bar'), grid = el('div', 'cvr-grid'), full = el('div', 'cvr-full'), foot = el('div', 'cvr-foot'), said = el('div', 'cvr-said', '', { role: 'status' });
  const big = el('img', '', '', { alt: '' }), bigName = el('div', 'cvr-name'), help = el('div', 'cvr-help'), count = el('span', 'cvr-count');
  full.append(big, bigName); full.hidden = true;
  root.append(bar, grid, full, foot, said); foot.append(count, help);

  const pick = (name, title, options, any) => {
    const s = el('select', '', '', { title, 'aria-label': title, name });
    if (any !== undefined) s.append(el('option', '', any, { value: '' }));
    for (const [v, t] of options) s.append(el('option', '', t, { value: v }));
    s.addEventListener('change', () => { choose(); root.focus({ preventScroll: true }); }); bar.append(s); return s;
  };
  let f = {};
  const choose = () => send('choose', { label: f.label ? f.label.value : '', split: f.split.value, mark: f.mark.value, column: f.column.value, match: f.match.value, sort: f.sort.value, up: f.up.dataset.up === '1' });
  function tools() {
    bar.replaceChildren(); f = {};
    const same = a => a.map(x => [x, x]);
    if (about.classes.length) f.label = pick('label', 'class', same(about.classes), 'all classes');
    f.split = pick('split', 'side of the split', same(about.splits), 'all sides');
    f.mark = pick('mark', 'marks', [['any', 'any mark'], ...same(Object.keys(about.marks))], 'marked or not');
    f.column = pick('column', 'filter by column', same(about.columns), 'filter by …');
    f.match = el('input', '', '', { placeholder: '>0.5, 1..2, text', 'aria-label': 'what the column holds', name: 'match', spellcheck: 'false' });
    f.match.addEventListener('change', choose); bar.append(f.match);
    f.sort = pick('sort', 'order', [['random', 'random order'], ...about.columns.map(c => [c, 'by ' + c])]);
    f.up = el('button', '', '↑', { title: 'turn the order round', 'data-up': '1', type: 'button' });
    f.up.addEventListener('click', () => { f.up.dataset.up = f.up.dataset.up === '1' ? '0' : '1'; choose(); root.focus({ preventScroll: true }); }); bar.append(f.up);
    bar.append(el('span', 'cvr-where'));
    keyHelp(help, [['← ↑ ↓ →', 'move'], ['space', 'next page'], ['p', 'back'], ['enter', 'full size'], ...Object.entries(about.marks).map(([m, k]) => [k, m]), ['l', 'right label'], ['u', 'undo'], ['/', 'filter']]);
  }
  function marksOf(t, row) {
    t.row = row; t.badges.replaceChildren();
    for (const m of row.marks) t.badges.append(el('span', 'cvr-mark', m === 'wrong label' && row.right ? '→ ' + row.right : m, { 'data-mark': m }));
    t.box.classList.toggle('marked', row.marks.length > 0);
  }
  const counts = c => { count.textContent = Object.entries(c).filter(([, n]) => n).map(([m, n]) => `${num(n)} ${m}`).join(' · ') || 'no marks yet'; };
  function lay(m) {
    page = m; tiles = []; grid.replaceChildren(); clearTimeout(timer);
    grid.style.setProperty('--side', about.side + 'px'); root.dataset.serial = m.serial; root.dataset.page = m.page; root.dataset.loaded = '0';
    for (const row of m.rows) {
      const t = { box: el('figure'), img: el('img', '', '', { alt: row.name, title: row.name, draggable: 'false' }), badges: el('div', 'cvr-marks') };
      const cap = el('figcaption', '', row.label); if (row.value) cap.append(el('span', 'cvr-value', row.value));
      t.box.append(t.img, cap, t.badges); t.box.dataset.id = row.id; marksOf(t, row);
      const i = tiles.length;
      t.box.addEventListener('click', () => { move(i); root.focus({ preventScroll: true }); });
      t.box.addEventListener('dblclick', () => { move(i); enlarge(); });
      tiles.push(t); grid.append(t.box);
    }
    if (!m.rows.length) grid.append(el('div', 'cvr-none', 'no image fits: change the filter'));
    for (const k of ['label', 'split', 'mark', 'column', 'match', 'sort']) if (f[k] && document.activeElement !== f[k]) f[k].value = m.view[k];
    f.up.dataset.up = m.view.up ? '1' : '0'; f.up.textContent = m.view.up ? '↑' : '↓'; f.up.disabled = m.view.sort === 'random';
    bar.querySelector('.cvr-where').textContent = `page ${num(m.page + 1)} of ${num(m.pages)} · ${num(m.total)} image${m.total === 1 ? '' : 's'}`;
    counts(m.counts); hide(); unname(); move(Math.min(m.at ?? 0, tiles.length - 1));
    timer = setTimeout(() => document.visibilityState === 'visible' && send('seen', { serial: m.serial }), 1000);
    if (!tiles.length) root.dataset.loaded = '1';
  }
  function thumbs(m, buffers) {
    if (!page || m.serial !== page.serial) return;
    m.at.forEach((i, j) => {
      const t = tiles[i];
      const done = () => { t.ready = true; if (tiles.every(o => o.ready)) root.dataset.loaded = '1'; };
      if (m.why[j]) { t.box.classList.add('bad'); t.img.replaceWith(el('div', 'cvr-bad', 'cannot be opened', { title: m.why[j] })); return done(); }
      if (m.small[j]) t.img.classList.add('small');
      t.img.addEventListener('load', done, { once: true }); t.img.addEventListener('error', done, { once: true }); show(t.img, buffers[j]);
    });
  }
  function move(i) {
    if (!tiles.length) return;
    tiles[at]?.box.classList.remove('at'); at = Math.max(0, Math.min(i, tiles.length - 1)); tiles[at].box.classList.add('at');
    tiles[at].box.scrollIntoView({ block: 'nearest' });
    if (!full.hidden) enlarge();
  }
  const across = () => { const y = tiles[0].box.offsetTop; const n = tiles.findIndex(t => t.box.offsetTop !== y); return n < 1 ? tiles.length : n; };
  const enlarge = () => { if (tiles.length) { full.hidden = false; bigName.textContent = tiles[at].row.name + ' · ' + tiles[at].row.label; big.removeAttribute('src'); send('full', { id: tiles[at].row.id }); } };
  const hide = () => { full.hidden = true; };
  const unname = () => { if (naming) { naming.remove(); naming = null; } };
  function name() {
    unname(); if (!tiles.length) return;
    const id = tiles[at].row.id, list = el('span', 'cvr-list'), input = el('input', '', '', { 'aria-label': 'right label', placeholder: 'right label', name: 'right', spellcheck: 'false' });
    const hint = () => { list.textContent = about.kind === 'single' ? fit(input.value, about.classes, 8).join(' · ') : about.kind === 'multi' ? 'labels with | between them' : ''; };
    naming = el('div', 'cvr-naming'); naming.append(input, list); foot.prepend(naming); hint(); input.focus();
    input.addEventListener('input', hint);
    input.addEventListener('keydown', e => {
      if (e.key === 'Enter') { const t = about.kind === 'single' ? (about.classes.includes(input.value) ? input.value : fit(input.value, about.classes, 1)[0]) : input.value; if (t) send('mark', { id, mark: 'wrong label', on: true, label: t }); }
      if (e.key === 'Enter' || e.key === 'Escape') { unname(); root.focus({ preventScroll: true }); e.preventDefault(); e.stopPropagation(); }
    });
  }
  function key(e, typing) {
    if (!about || !page) return false;
    if (typing) { if (e.key === 'Escape' || (e.key === 'Enter' && e.target === f.match)) { root.focus({ preventScroll: true }); return true; } return false; }
    const m = Object.entries(about.marks).find(([, k]) => k === e.key.toLowerCase());
    if (m && tiles.length) { if (!e.repeat) send('mark', { id: tiles[at].row.id, mark: m[0], on: !tiles[at].row.marks.includes(m[0]) }); return true; }
    const go = { ArrowLeft: () => move(at - 1), ArrowRight: () => move(at + 1), ArrowUp: () => move(at - across()), ArrowDown: () => move(at + across()),
      ' ': () => turn(1), n: () => turn(1), PageDown: () => turn(1), p: () => turn(-1), PageUp: () => turn(-1), Home: () => send('page', { n: 0 }), End: () => send('page', { n: page.pages - 1 }),
      Enter: () => full.hidden ? enlarge() : hide(), Escape: hide, u: () => send('undo'), l: name, '/': () => { (f.column.value ? f.match : f.column).focus(); } }[e.key];
    if (!go || (!tiles.length && e.key.startsWith('Arrow'))) return false;
    go(); return true;
  }
  const turn = by => send('turn', { by });
  full.addEventListener('click', hide);
  const hear = (m, buffers) => {
    said.textContent = '';
    if (m.is === 'about') { about = m; tools(); }
    else if (m.is === 'page') lay(m);
    else if (m.is === 'thumbs') thumbs(m, buffers);
    else if (m.is === 'marks') { counts(m.counts); const t = tiles.find(t => t.row.id === m.row.id); if (t) marksOf(t, m.row); root.dataset.marked = (+root.dataset.marked || 0) + 1; }
    else if (m.is === 'full') { if (tiles[at]?.row.id === m.id) m.why ? bigName.textContent = m.why : show(big, buffers[0]); }
    else if (m.is === 'said') said.textContent = m.text;
  };
  return [hear, () => { clearTimeout(timer); }, root];
}

function quiz(model, box) {
  let about = null, q = null, waiting = null, typed = '', picked = new Set(), lit = 0, shown = 0, away = 0, left = 0, seenFull = false, value = null;
  const send = (what, more = {}) => model.send({ do: what, ...more });
  const root = frame(box, key), bar = el('div', 'cvr-bar'), prog = el('progress', '', '', { max: 1, value: 0 }), where = el('span', 'cvr-where'), stage = el('div', 'cvr-stage'), pic = el('img', '', '', { alt: 'which is it?', draggable: 'false' }),
    word = el('div', 'cvr-typed', '', { 'aria-live': 'polite' }), list = el('div', 'cvr-choices'), slide = el('input', 'cvr-slide', '', { type: 'range', 'aria-label': 'value' }), foot = el('div', 'cvr-foot'), help = el('div', 'cvr-help'), said = el('div', 'cvr-said', '', { role: 'status' }), end = el('div', 'cvr-end');
  bar.append(prog, where); stage.append(pic); foot.append(help); root.append(bar, stage, word, slide, list, end, foot, said); slide.hidden = true;
  const enlarged = (w, h, most) => { const k = Math.min(most / Math.max(w, h), 20); pic.style.width = Math.round(w * k) + 'px'; pic.style.height = Math.round(h * k) + 'px'; };   // no pixel is more than 20 wide
  pic.addEventListener('load', () => { const w = pic.naturalWidth, h = pic.naturalHeight; enlarged(w, h, stage.classList.contains('wide') ? Math.max(420, Math.min(Math.max(w, h), root.clientWidth - 30, 640)) : Math.max(200, Math.min(420, window.innerHeight * .5))); if (q) { shown = performance.now(); away = 0; root.dataset.shown = q.serial; } });
  const gone = () => { if (document.visibilityState === 'hidden') left = performance.now(); else if (left) { away += performance.now() - left; left = 0; } };
  document.addEventListener('visibilitychange', gone);
  const shownClasses = () => fit(typed, about.classes, about.classes.length > 12 ? 12 : about.classes.length);
  function draw() {
    list.replaceChildren();
    if (!q) { word.textContent = ''; return; }
    if (about.kind === 'regression') { word.textContent = typed || (value === null ? '' : String(value)); slide.hidden = false; return; }
    const names = shownClasses(); lit = Math.max(0, Math.min(lit, names.length - 1));
    const keyOf = Object.fromEntries(Object.entries(about.keys).map(([k, c]) => [c, k]));
    names.forEach((c, i) => {
      const b = el('button', 'cvr-choice', '', { type: 'button', 'data-class': c }); if (keyOf[c]) b.append(el('kbd', '', keyOf[c])); if (keyOf[c] !== c) b.append(el('span', '', c));
      b.classList.toggle('picked', picked.has(c)); b.classList.toggle('lit', typed !== '' && i === lit);
      b.addEventListener('click', () => { take(c); root.focus({ preventScroll: true }); }); list.append(b);
    });
    if (names.length < about.classes.length) list.append(el('span', 'cvr-more', `${typed ? 'type on' : 'type a name'}: ${num(about.classes.length)} classes`));
    word.textContent = [...picked].join(' + ') + (picked.size && typed ? '  …  ' : '') + typed;
  }
  function ask(m, buffers) {
    q = m; waiting = null; typed = ''; picked = new Set(); lit = 0; seenFull = false; end.replaceChildren(); stage.hidden = false; stage.classList.remove('wide'); value = null;
    prog.value = m.total ? m.done / m.total : 0; where.textContent = `${num(m.done)} of ${num(m.total)}` + (m.round ? ` · once more (${m.round})` : '');
    if (about.kind === 'regression') { slide.min = about.lo; slide.max = about.hi; slide.step = about.step; slide.value = (about.lo + about.hi) / 2; }
    root.dataset.serial = m.serial; root.dataset.done = m.done; root.dataset.marked = m.occluded ? '1' : '0'; said.textContent = m.occluded ? 'marked: occluded or cut off' : ''; shown = performance.now(); show(pic, buffers[0]); draw();
  }
  const seconds = () => Math.max(0, (performance.now() - shown - away) / 1000);
  const give = text => { if (q) { send('answer', { id: q.id, said: text, seconds: seconds(), full: seenFull }); waiting = q; q = null; root.dataset.shown = ''; } };
  const take = c => { if (!q) return; if (about.kind === 'multi') { picked.has(c) ? picked.delete(c) : picked.add(c); typed = ''; draw(); } else give(c); };
  const set = v => { value = Math.min(about.hi, Math.max(about.lo, +(+v).toPrecision(12))); slide.value = value; draw(); };
  slide.addEventListener('input', () => { typed = ''; set(slide.value); });
  function over(m) {
    q = waiting = null; prog.value = 1; where.textContent = `${num(m.done)} of ${num(m.total)}`; stage.hidden = true; slide.hidden = true; root.dataset.done = m.done; root.dataset.serial = 'done'; draw(); end.replaceChildren(el('h4', '', m.title));
    const t = el('table'); for (const [a, b] of m.lines) { const r = el('tr'); r.append(el('th', '', a), el('td', '', b)); t.append(r); } end.append(t);
    if (m.again) { const b = el('button', '', `once more: ${m.again} of them, to see how far you agree with yourself`, { type: 'button' }); b.addEventListener('click', () => { send('again', { n: m.again }); root.focus({ preventScroll: true }); }); end.append(b); }
  }
  function key(e, typing) {
    if (!about) return false;
    if (typing && e.target !== slide) return false;
    if (e.key === 'Backspace') { if (typed) { typed = typed.slice(0, -1); draw(); } else if (!e.repeat) send('undo'); return true; }
    if (!q) return e.key.length === 1;
    if (e.key === 'Escape') { typed = ''; draw(); return true; }
    if (e.key === '?') { if (!e.repeat) give(null); return true; }
    if (e.key === '!') { if (!e.repeat) send('occluded', { id: q.id }); return true; }
    if (e.key === ' ' && !typed) { if (stage.classList.contains('wide')) { stage.classList.remove('wide'); send('small', { id: q.id }); } else { seenFull = true; send('full', { id: q.id }); } return true; }
    if (about.kind === 'regression') {
      const step = +about.step * (e.shiftKey ? 10 : 1), now = value ?? (about.lo + about.hi) / 2;
      if (['ArrowLeft', 'ArrowDown'].includes(e.key)) { typed = ''; set(now - step); return true; }
      if (['ArrowRight', 'ArrowUp'].includes(e.key)) { typed = ''; set(now + step); return true; }
      if (/^[-0-9.]$/.test(e.key)) { typed += e.key; draw(); return true; }
      if (e.key === 'Enter') { const v = typed === '' ? value : Number(typed); if (v === null || !Number.isFinite(v)) said.textContent = 'move the slider or type a number first'; else if (!e.repeat) give(String(v)); return true; }
      return false;
    }
    const c = typed === '' && (about.keys[e.key] ?? about.keys[e.key.toLowerCase()]);
    if (c) { if (!e.repeat) take(c); return true; }
    if (e.key === 'Enter') { if (e.repeat) return true; if (typed) { const names = shownClasses(); if (names[lit]) take(names[lit]); } else if (about.kind === 'multi') give([...picked].sort().join('|')); return true; }
    if (['ArrowDown', 'ArrowRight'].includes(e.key) && typed) { lit += 1; draw(); return true; }
    if (['ArrowUp', 'ArrowLeft'].includes(e.key) && typed) { lit -= 1; draw(); return true; }
    if (e.key.length === 1) { if (fit(typed + e.key, about.classes, 1).length) { typed += e.key; lit = 0; draw(); } return true; }
    return false;
  }
  const hear = (m, buffers) => {
    if (m.is !== 'said') said.textContent = '';
    if (m.is === 'about') {
      about = m; slide.hidden = m.kind !== 'regression';
      const how = m.kind === 'regression' ? [['← →', 'value'], ['0…9', 'type it'], ['enter', 'answer']] : m.kind === 'multi' ? [[Object.keys(m.keys).length ? 'keys' : 'a…z', 'on and off'], ['enter', 'answer']] : Object.keys(m.keys).length === m.classes.length ? [['keys', 'answer']] : [['a…z', 'type'], ['enter', 'answer']];
      keyHelp(help, [...how, ['?', "can't tell"], ['!', 'occluded or cut off'], ['space', 'full size'], ['backspace', 'undo']]);
    }
    else if (m.is === 'question') ask(m, buffers);
    else if (m.is === 'picture' && q && m.id === q.id) { stage.classList.toggle('wide', m.full); const keep = shown, lost = away; pic.addEventListener('load', () => { shown = keep; away = lost; }, { once: true }); show(pic, buffers[0]); }
    else if (m.is === 'occluded') { root.dataset.marked = m.on ? '1' : '0'; said.textContent = m.on ? 'marked: occluded or cut off' : ''; }
    else if (m.is === 'done') over(m);
    else if (m.is === 'said') { said.textContent = m.text; if (waiting) { q = waiting; waiting = null; root.dataset.shown = q.serial; draw(); } }   // an answer that was refused: the image is still asked
  };
  return [hear, () => document.removeEventListener('visibilitychange', gone), root];
}

function render({ model, el: box }) {
  const [hear, end, root] = (model.get('what') === 'quiz' ? quiz : browse)(model, box);
  const away = el('style', '', `[data-cvr-static="${model.get('key').replace(/[^0-9a-z]/g, '')}"] { display: none; }`);   // what stands in where no kernel runs
  document.head.append(away);
  model.on('msg:custom', hear);
  requestAnimationFrame(() => model.send({ do: 'hello', wide: root.clientWidth, high: window.innerHeight }));
  root.addEventListener('focus', () => root.classList.add('on')); root.addEventListener('blur', () => root.classList.remove('on'));
  return () => { model.off('msg:custom', hear); away.remove(); end(); };
}
export default { render };
