"""Browser and quiz in a real browser: JupyterLab and Notebook 7, driven by keys in headless Chromium.

    python .ci/browser.py [--host lab|notebook] [--n 100000] [--shots DIR]

Needs Debian's chromium and chromium-driver (or CHROMIUM and CHROMEDRIVER), and from PyPI `cv_recipe[browser]`. Everything lies in a temporary folder, and nothing but this machine is reached.

- quiz: 30 answers by keys, some wrong, one taken back; the page is loaded anew after 12, the kernel restarted after 21; all 30 are kept, and every figure shown equals one computed here by hand.
- browse: N generated images; pages turned, jumped to, filtered, sorted, marked; loaded anew, kernel restarted: the marks are there. A page turn, from the key to the last picture, takes less than half a second.
- without a kernel: the sheet is shown.
"""
import argparse, io, json, os, re, secrets, shutil, socket, statistics, subprocess, sys, tempfile, time, urllib.request
from pathlib import Path

import numpy as np
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

REPO,LIMIT = Path(__file__).resolve().parents[1],.5

def make_images(root, n):
    "n small photos in five classes, each with other bytes: what follows a JPEG's end is not read"
    rng,bases = np.random.default_rng(0),[]
    for i in range(200):
        a = np.kron(rng.integers(40, 216, (6,6,3)), np.ones((16,16,1))).astype(np.uint8)
        f = io.BytesIO(); Image.fromarray(a).save(f, 'JPEG', quality=85); bases.append(f.getvalue())
    for c in 'ant bee cow doe elk'.split(): (root/c).mkdir(parents=True)
    for i in range(n): (root/'ant bee cow doe elk'.split()[i%5]/f'{i:06}.jpg').write_bytes(bases[i%200]+i.to_bytes(4, 'big'))

def notebook(path, *cells):
    cell = lambda s: dict(cell_type='code', id=secrets.token_hex(4), metadata={}, execution_count=None, outputs=[], source=s)
    path.write_text(json.dumps(dict(cells=[cell(c) for c in cells], metadata=dict(kernelspec=dict(name='python3', display_name='python3', language='python')), nbformat=4, nbformat_minor=5)))

def free_port():
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); return s.getsockname()[1]

class Jupyter:
    "A server of its own, with nothing of the user's"
    def __init__(self, home):
        self.port,self.token,self.home = free_port(),secrets.token_hex(8),home
        env = os.environ | {f'JUPYTER_{k}_DIR': str(home/'jupyter'/k.lower()) for k in ('CONFIG','DATA','RUNTIME')} | dict(PYTHONPATH=os.pathsep.join(filter(None, (str(REPO), os.environ.get('PYTHONPATH')))), OMP_NUM_THREADS='1', CV_RECIPE_CACHE=str(home/'cache'), IPYTHONDIR=str(home/'ipython'))
        args = ['--no-browser', '--allow-root', '--ip=127.0.0.1', f'--port={self.port}', f'--IdentityProvider.token={self.token}', f'--ServerApp.root_dir={home}/nbs', '--LabApp.extension_manager=readonly']
        (off := home/'jupyter'/'config'/'labconfig'/'page_config.json').parent.mkdir(parents=True)
        off.write_text(json.dumps(dict(disabledExtensions={'@jupyterlab/apputils-extension:announcements': True})))
        self.log = open(home/'jupyter.log', 'w')
        self.proc = subprocess.Popen([sys.executable, '-m', 'jupyterlab', *args], env=env, stdout=self.log, stderr=subprocess.STDOUT)
        for _ in range(300):
            try: self.api('GET', 'status'); return
            except OSError: time.sleep(.1)
        raise SystemExit(f'the server did not come up:\n{(home/"jupyter.log").read_text()[-2000:]}')
    def api(self, method, path, data=None):
        req = urllib.request.Request(f'http://127.0.0.1:{self.port}/api/{path}', method=method, headers=dict(Authorization=f'token {self.token}'), data=None if data is None else json.dumps(data).encode())
        with urllib.request.urlopen(req, timeout=30) as r: body = r.read(); return json.loads(body) if body else None
    def kernel(self, name): return next(s['kernel']['id'] for s in self.api('GET', 'sessions') if s['path']==name)
    def close(self):
        for s in self.api('GET', 'sessions'): self.api('DELETE', f"kernels/{s['kernel']['id']}")
        self.proc.terminate()
        try: self.proc.wait(10)
        except subprocess.TimeoutExpired: self.proc.kill(); self.proc.wait()
        self.log.close()

class Page:
    "A notebook in the browser"
    def __init__(self, server, host, home, shots):
        o = webdriver.ChromeOptions()
        o.binary_location = os.environ.get('CHROMIUM') or shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
        for a in ('--headless=new', '--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-dev-shm-usage', '--no-first-run', '--force-color-profile=srgb', '--window-size=1280,1000', f'--user-data-dir={home}/chromium'): o.add_argument(a)
        o.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
        self.d = webdriver.Chrome(o, webdriver.ChromeService(os.environ.get('CHROMEDRIVER') or shutil.which('chromedriver')))
        self.server,self.host,self.shots,self.name = server,host,shots,''
    def wait(self, what, test, s=60):
        try: return WebDriverWait(self.d, s, poll_frequency=.05, ignored_exceptions=(Exception,)).until(lambda d: test())
        except Exception: self.shot('failed'); raise SystemExit(f'{self.host}, {self.name}: waited {s} s for {what}\n'+'\n'.join(o['message'][:300] for o in self.d.get_log('browser')[-8:])) from None
    def css(self, q): return self.d.find_elements(By.CSS_SELECTOR, q)
    def open(self, name):
        self.name = name
        self.d.get(f"http://127.0.0.1:{self.server.port}/{f'lab/workspaces/{name[:-6]}/tree' if self.host=='lab' else 'notebooks'}/{name}?token={self.server.token}")
        self.wait('the notebook', lambda: len(self.css('.jp-CodeCell'))>1)
        self.wait('the kernel', lambda: any(s['path']==name and s['kernel']['execution_state']=='idle' for s in self.server.api('GET', 'sessions')))
    def reload(self):
        self.d.refresh()
        try: self.d.switch_to.alert.accept()
        except Exception: pass
        self.wait('the notebook again', lambda: len(self.css('.jp-CodeCell'))>1)
    def keys(self, *ks): webdriver.ActionChains(self.d).send_keys(*ks).perform()
    def chord(self, mod, k): webdriver.ActionChains(self.d).key_down(mod).send_keys(k).key_up(mod).perform()
    def prompt(self, i): return self.css('.jp-CodeCell')[i].find_element(By.CSS_SELECTOR, '.jp-InputPrompt').text
    def run(self, i):
        was = self.wait('the prompt', lambda: self.prompt(i) or '-')
        for _ in range(5):
            for o in self.css('dialog.jp-Dialog'): print(f'  a dialog was answered: {o.text!r}', flush=True); self.shot('dialog'); o.find_elements(By.CSS_SELECTOR, '.jp-mod-accept')[-1].click(); time.sleep(.3)
            try: self.css('.jp-CodeCell')[i].find_element(By.CSS_SELECTOR, '.cm-content').click()
            except WebDriverException: time.sleep(.5); continue
            try: WebDriverWait(self.d, 2).until(lambda d: d.execute_script("return !!document.activeElement.closest('.cm-content')"))
            except Exception: continue
            self.chord(Keys.CONTROL, Keys.ENTER)
            try: WebDriverWait(self.d, 3, poll_frequency=.02).until(lambda d: self.prompt(i)!=was); return
            except Exception: pass
        self.shot('failed'); raise SystemExit(f'{self.host}, {self.name}: cell {i} does not run')
    def ran(self, i, s=180): self.wait(f'cell {i} to end', lambda: re.fullmatch(r'\[\d+\]:?', self.prompt(i)), s)
    def save(self): self.chord(Keys.CONTROL, 's'); time.sleep(1)
    def root(self): return self.css('.cvr')[0]
    def data(self, k): return self.d.execute_script(f"return document.querySelector('.cvr')?.dataset.{k} ?? ''")
    def focus(self): self.root().find_element(By.CSS_SELECTOR, '.cvr-where').click(); self.wait('focus', lambda: self.d.execute_script("return document.activeElement.classList.contains('cvr')"))
    def restart(self): self.server.api('POST', f'kernels/{self.server.kernel(self.name)}/restart'); time.sleep(1.5)
    def shot(self, name):
        if self.shots: self.shots.mkdir(parents=True, exist_ok=True); self.d.save_screenshot(str(self.shots/f'{self.host}_{name}.png'))

def same(what, a, b):
    if a!=b: raise SystemExit(f'{what}: {a!r}, and should be {b!r}')
    print(f'  {what}: {a}', flush=True)

def lines(path): return [json.loads(l) for l in path.read_text().splitlines()]

def try_quiz(p, project, n=30):
    "Thirty answers by keys"
    from cv_recipe.data import Source
    label = (src := Source.digits()).df.set_index('id').label
    p.open('quiz.ipynb'); p.run(0); p.ran(0); p.run(1)
    expect,at = {},0
    def shown(): return p.wait('a picture', lambda: (s := p.data('serial')) and p.data('shown')==s and s)
    shown(); p.shot('quiz_start'); cells = len(p.css('.jp-CodeCell')); p.focus()
    while at<n:
        s = shown(); i = s.split('-')[1]
        key = '?' if at in (5,20) else label[i] if at%7 else str((int(label[i])+1)%10)
        expect[i] = None if key=='?' else key
        time.sleep(.1+.05*(at%7)); p.keys(key); p.wait('the next image', lambda: p.data('serial')!=s)   # answers that take different times
        at += 1
        if at==3: p.keys(Keys.BACKSPACE); p.wait('the image again', lambda: p.data('serial')==s); shown(); p.keys('d', 'd', 'x', expect[i]); p.wait('the next image', lambda: p.data('serial')!=s)
        if at==8: shown(); p.keys(Keys.SPACE); p.wait('full size', lambda: p.css('.cvr-stage.wide')); p.shot('quiz_full'); p.keys(Keys.SPACE); p.wait('its size', lambda: not p.css('.cvr-stage.wide')); p.keys('!'); p.wait('mark', lambda: p.data('marked')=='1'); marked = p.data('serial').split('-')[1]; p.shot('quiz_middle')
        if at==12: p.save(); p.reload(); shown(); same('answers after the page was loaded anew', p.data('done'), '12'); p.focus()
        if at==21: p.restart(); p.reload(); p.run(0); p.ran(0); p.run(1); p.wait('the quiz again', lambda: p.data('done')=='21'); shown(); p.focus()
    p.wait('the end', lambda: p.css('.cvr-end table')); p.shot('quiz_end')
    same('cells that the keys left alone', len(p.css('.jp-CodeCell')), cells)
    kept = {}
    for o in lines(project/'quiz'/'ann.jsonl'):
        if o['do']=='answer': kept[o['id']] = o
        elif o['do']=='undo': kept.pop(o['id'])
    same('answers kept', ({i: o['said'] for i,o in kept.items()}==expect, len(kept)), (True, n))
    right,told = sum(expect[i]==label[i] for i in expect),sum(s is not None for s in expect.values())
    def wil(k, m, z=1.959963984540054): c,h = (k+z*z/2)/(m+z*z), z*((k*(m-k)/m+z*z/4)**.5)/(m+z*z); return f'{k/m:.1%} [{c-h:.1%}, {c+h:.1%}], {m} images'
    said = {r.find_element(By.TAG_NAME, 'th').text: r.find_element(By.TAG_NAME, 'td').text for r in p.css('.cvr-end tr')}
    same('right', said['right'], wil(right, n)); same('right where told', said['right where told'], wil(right, told)); same("can't tell", said["can't tell"], '2')
    secs = [o['seconds'] for o in kept.values()]
    same('time', said['time'], f'{statistics.median(secs):.1f} s an answer (median), {sum(secs)/60:.1f} min in all')
    assert all(0<s<30 for s in secs) and statistics.median(secs)>=.15, secs
    same('full size looked at', [i for i,o in kept.items() if o['full']], [marked]); same('marked', [o['id'] for o in lines(project/'marks.jsonl') if o['do']=='mark'], [marked])
    again = {}
    for k in range(10):
        if not k: p.css('.cvr-end button')[0].click(); p.wait('a repetition', lambda: p.data('serial').startswith('1-')); p.focus()
        s = shown(); i = s.split('-')[1]
        again[i] = str((int(label[i])+2)%10) if k in (2,5) else '?' if expect[i] is None else expect[i]
        p.keys(again[i]); p.wait('the next image', lambda: p.data('serial')!=s)
    agree = sum(('?' if expect[i] is None else expect[i])==a for i,a in again.items())
    p.run(2); p.wait('the result', lambda: p.css('.jp-CodeCell')[2].find_elements(By.CSS_SELECTOR, '.jp-OutputArea-output table')); p.shot('quiz_result')
    out = p.css('.jp-CodeCell')[2].text
    for t in (wil(right, n), f'{agree*10}% of 10 images'): same('in the result', t in out, True)

TIMER = """
window.cvrT = []; let t0 = 0; const r = document.querySelector('.cvr');
r.addEventListener('keydown', e => { t0 = performance.now(); }, true);
new MutationObserver(() => { if (r.dataset.loaded === '1' && t0) { requestAnimationFrame(() => { if (t0) window.cvrT.push(performance.now() - t0); t0 = 0; }); } }).observe(r, { attributes: true, attributeFilter: ['data-loaded'] });
"""

def try_browse(p, project, n):
    "Page, filter, mark, load anew"
    p.open('browse.ipynb'); p.run(0); p.ran(0, 300); p.run(1)
    def loaded(): return p.wait('a page', lambda: p.data('loaded')=='1')
    loaded(); same('images', p.css('.cvr-where')[0].text.split('· ')[1], f'{n:,} images'); p.focus(); p.shot('browse_start')
    def turn(*ks):
        s = p.data('serial'); k = len(p.d.execute_script('return window.cvrT')); p.keys(*ks)
        p.wait('the next page', lambda: p.data('serial')!=s and p.data('loaded')=='1' and len(p.d.execute_script('return window.cvrT'))>k)
    p.d.execute_script(TIMER)
    for _ in range(12): turn(Keys.SPACE); time.sleep(.15)
    turn(Keys.END); turn('p'); turn(Keys.HOME)
    for _ in range(4): turn(Keys.SPACE)
    ts = sorted(p.d.execute_script('return window.cvrT'))
    print(f'  page turns, ms: median {statistics.median(ts):.0f}, slowest {ts[-1]:.0f}, of {len(ts)}', flush=True)
    if statistics.median(ts)>1000*LIMIT: raise SystemExit(f'a page turn took {statistics.median(ts):.0f} ms')
    def chosen(f, total):
        s = p.data('serial'); f(); p.wait('the choice', lambda: p.data('serial')!=s and p.data('loaded')=='1')
        same('images chosen', p.css('.cvr-where')[0].text.split('· ')[1].split(' ')[0], f'{total:,}')
    def pick(name, v): Select(p.css(f'.cvr select[name="{name}"]')[0]).select_by_value(v)
    chosen(lambda: pick('label', 'cow'), n//5)
    caps = {o.text for o in p.css('.cvr figcaption')}; same('captions', caps, {'cow'})
    pick('column', 'number'); time.sleep(.5)
    def typed(): e = p.css('.cvr input[name="match"]')[0]; e.clear(); e.send_keys('>=100', Keys.ENTER)
    chosen(typed, n//5-20)
    chosen(lambda: pick('sort', 'number'), n//5-20)
    same('in order', [o.text for o in p.css('.cvr figcaption .cvr-value')][:3], ['102','107','112'])
    p.focus()
    ids = [o.get_attribute('data-id') for o in p.css('.cvr figure')]
    def marks(k): p.wait('the mark', lambda: p.data('marked')==str(k))
    p.keys('w'); marks(1); p.keys(Keys.ARROW_RIGHT, 'd'); marks(2); p.keys(Keys.ARROW_RIGHT, 'o'); marks(3); p.keys('c'); marks(4); p.keys('u'); marks(5); p.keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT, 'l')
    p.wait('the field for the label', lambda: p.css('.cvr-naming input')); p.keys('be', Keys.ENTER); marks(6); p.shot('browse_marked')
    p.keys(Keys.ENTER); p.wait('full size', lambda: p.css('.cvr-full:not([hidden]) img[src]')); time.sleep(.2); p.shot('browse_full'); p.keys(Keys.ESCAPE)
    want = {ids[0]: ['→ bee'], ids[1]: ['drop'], ids[2]: ['occluded or cut off']}
    def badges(): return {o.get_attribute('data-id'): b for o in p.css('.cvr figure.marked') if (b := [x.text for x in o.find_elements(By.CSS_SELECTOR, '.cvr-mark')])}
    same('marks', badges()==want, True)
    p.save(); p.reload(); loaded(); p.wait('the marks after the page was loaded anew', lambda: badges()==want); same('marks after the page was loaded anew', badges()==want, True)
    p.restart(); p.reload(); p.run(0); p.ran(0, 300); p.run(1); loaded(); p.focus()
    chosen(lambda: pick('mark', 'any'), 3); same('marks after the kernel was restarted', badges()==want, True); p.shot('browse_any')
    state = {}
    for o in lines(project/'marks.jsonl'):
        if o['do']=='mark': state.setdefault(o['id'], {}).update({o['mark']: o.get('label') or o['on']})
    same('in the file', {i: {k for k,v in m.items() if v} for i,m in state.items()}=={ids[0]: {'wrong label'}, ids[1]: {'drop'}, ids[2]: {'occluded or cut off'}}, True)
    p.run(2); p.wait('the fix', lambda: f"{n-1:,} images" in p.css('.jp-CodeCell')[2].text); same('fixed', f"{n-1:,} images" in p.css('.jp-CodeCell')[2].text, True)
    p.save(); p.server.api('DELETE', f"kernels/{p.server.kernel('browse.ipynb')}"); p.reload()
    p.wait('the sheet', lambda: (o := p.css('[data-cvr-static]')) and o[0].is_displayed()); p.shot('browse_nokernel'); same('the sheet where no kernel runs', p.css('[data-cvr-static]')[0].is_displayed(), True)

def main():
    ap = argparse.ArgumentParser()
    ap.add_argument('--host', choices=('lab','notebook','both'), default='both'); ap.add_argument('--n', type=int, default=100_000); ap.add_argument('--shots', type=Path); ap.add_argument('--only', choices=('quiz','browse'))
    a = ap.parse_args()
    began = time.monotonic()
    os.environ |= dict(SE_OFFLINE='true', SE_AVOID_STATS='true', NO_PROXY='127.0.0.1,localhost', no_proxy='127.0.0.1,localhost')
    sys.path.insert(0, str(REPO))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as tmp:
        home = Path(tmp); os.environ['CV_RECIPE_CACHE'] = str(home/'cache'); (home/'nbs').mkdir()
        if a.only!='quiz': make_images(home/'photos', a.n); print(f'{a.n:,} images after {time.monotonic()-began:.0f} s', flush=True)
        server = Jupyter(home)
        try:
            for host in ('lab','notebook') if a.host=='both' else (a.host,):
                notebook(home/'nbs'/'quiz.ipynb', 'from cv_recipe.data import Source\nfrom cv_recipe.quiz import Quiz\nsrc = Source.digits()', f"q = Quiz(src, 30, 'ann', size=8, folder=r'{home/host/'quiz'}')\nq", 'q.result()')
                notebook(home/'nbs'/'browse.ipynb', f"from cv_recipe.data import Source\nfrom cv_recipe.browse import browse\nfrom cv_recipe.marks import marks_fix\nsrc = Source.from_folder(r'{home/'photos'}')\nsrc = src.add(number=[int(p.stem) for p in src.paths])", f"b = browse(src, r'{home/host/'browse'}', 'ann')\nb", f"src.fix(**marks_fix(src, r'{home/host/'browse'}'))")
                page = Page(server, host, home/host, a.shots)
                try:
                    if a.only!='browse': print(f'{host}: quiz', flush=True); try_quiz(page, home/host/'quiz')
                    if a.only!='quiz': print(f'{host}: browse', flush=True); try_browse(page, home/host/'browse', a.n)
                finally: page.d.quit()
        finally: server.close()
    print(f'browser and quiz work ({time.monotonic()-began:.0f} s)')

if __name__=='__main__': main()
