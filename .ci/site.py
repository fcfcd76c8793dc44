"""The docs site in a real browser: every page opened on a desk and on a phone, the contents, search and links followed by clicks.

    python .ci/site.py docs/_build/html [--shots DIR]

Needs Debian's chromium and chromium-driver (or CHROMIUM and CHROMEDRIVER), and from PyPI selenium. The site is served on this machine alone; what it would fetch from elsewhere is refused, and has to be done without.

- each page: its heading is its title's, each figure is there, no error in the console that is of this site, and on a phone nothing but code, tables and figures of their own scrolls sideways
- contents: each link in the sidebar of the first page leads to a page that has it as its heading; from page to page by *Next* until the end, all pages seen
- search: a function is typed, found and opened; the heading is in sight
- source: each link to the code names a file and a place that are in this repository
- on a phone the contents open by their button
"""
import argparse, functools, http.server, json, os, re, shutil, sys, tempfile, threading, time
from pathlib import Path
from urllib.parse import unquote, urlparse

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

REPO = Path(__file__).resolve().parents[1]
DESK,PHONE = (1280,900),(390,844)

class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args): pass

def browser(home, size):
    o = webdriver.ChromeOptions()
    o.binary_location = os.environ.get('CHROMIUM') or shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
    for a in ('--headless=new', '--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-dev-shm-usage', '--no-first-run', '--force-color-profile=srgb',
        '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1', f'--window-size={size[0]},{size[1]}', f'--user-data-dir={home}'): o.add_argument(a)
    o.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    d = webdriver.Chrome(o, webdriver.ChromeService(os.environ.get('CHROMEDRIVER') or shutil.which('chromedriver')))
    d.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', dict(width=size[0], height=size[1], deviceScaleFactor=1, mobile=size==PHONE))   # a window has a least width, a page has none
    return d

def wait(d, what, test, s=20):
    try: return WebDriverWait(d, s, poll_frequency=.05, ignored_exceptions=(Exception,)).until(lambda _: test())
    except Exception: raise SystemExit(f'{d.current_url}: waited {s} s for {what}') from None

def into_sight(d, e): d.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", e); wait(d, 'a link in sight', lambda: d.execute_script("const r = arguments[0].getBoundingClientRect(); return r.top >= 0 && r.bottom <= innerHeight", e))

STATE = """
const wide = document.documentElement.scrollWidth - window.innerWidth;
const out = [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > window.innerWidth + 1 && !e.closest('pre, table, .cell_output, .table-wrapper, .highlight, .sidebar-drawer, .toc-drawer, .math')).slice(0, 3).map(e => e.tagName + '.' + e.className);
return {h1: document.querySelector('article h1')?.innerText ?? '', title: document.title, wide, out,
  broken: [...document.images].filter(i => { i.loading = 'eager'; return i.complete && !i.naturalWidth && i.src.startsWith(location.origin); }).map(i => i.getAttribute('src')), figures: document.querySelectorAll('article img').length};
"""

def errors(d, site): return [o['message'][:200] for o in d.get_log('browser') if o['level']=='SEVERE' and site in o['message']]

def all_pages(d, site, pages, bad, phone):
    "Each page by itself"
    figures = 0
    for p in pages:
        d.get(f'{site}/{p}')
        s = d.execute_script(STATE); figures += s['figures']
        if not s['h1']: bad.append(f'{p}: no heading')
        elif s['h1'].strip('¶# ')!=s['title'].split(' - ')[0].strip() and p!='index.html': bad.append(f"{p}: titled {s['title']!r}, headed {s['h1']!r}")
        if s['broken']: bad.append(f"{p}: {len(s['broken'])} figures are missing, the first is {s['broken'][0]}")
        if phone and s['wide']>1: bad.append(f"{p}: {s['wide']} pixels wider than a phone: {', '.join(s['out'])}")
        bad += [f'{p}: {e}' for e in errors(d, site)]
    return figures

def contents(d, site, bad):
    "By clicks: the sidebar, then page after page"
    d.get(f'{site}/index.html')
    names = [(a.get_attribute('textContent').strip(), a.get_attribute('href')) for a in d.find_elements(By.CSS_SELECTOR, '.sidebar-tree a.reference.internal')]
    for name,href in names[::9]:
        d.get(f'{site}/index.html')
        a = next(o for o in d.find_elements(By.CSS_SELECTOR, '.sidebar-tree a.reference.internal') if o.get_attribute('href')==href)
        into_sight(d, a); a.click()
        wait(d, f'the page of {name}', lambda: d.current_url.split('#')[0]==href)
        h = d.find_element(By.CSS_SELECTOR, 'article h1').text.strip('¶# ')
        if h!=name: bad.append(f'the contents say {name!r}, the page {h!r}')
    d.get(f'{site}/index.html'); seen = {d.current_url}
    while (nxt := d.find_elements(By.CSS_SELECTOR, 'a.next-page')):
        was = d.current_url; into_sight(d, nxt[0]); nxt[0].click(); wait(d, 'the next page', lambda: d.current_url!=was)
        if d.current_url in seen: bad.append(f'{was}: next goes round in a circle'); break
        seen.add(d.current_url)
    if (lost := {h for _,h in names}-seen): bad.append(f'{len(lost)} pages are not reached by next, such as {min(lost)}')
    return len(names),len(seen)

def search(d, site, word, page):
    "Typed, found, opened"
    d.get(f'{site}/index.html')
    box = d.find_element(By.CSS_SELECTOR, '.sidebar-search'); box.click(); box.send_keys(word, Keys.ENTER)
    found = wait(d, f'results for {word}', lambda: [a for a in d.find_elements(By.CSS_SELECTOR, '#search-results li a') if page in a.get_attribute('href')])
    n = len(d.find_elements(By.CSS_SELECTOR, '#search-results li'))
    found[0].click(); wait(d, page, lambda: page in d.current_url)
    if word not in d.find_element(By.CSS_SELECTOR, 'article').text: raise SystemExit(f'{d.current_url} was found for {word!r}, and does not have it')
    return n

def sources(html, bad):
    "Links to the code name a file that is here, and a line that it has"
    n = 0
    for f in sorted(html.rglob('*.html')):
        for href in re.findall(r'class="nbdev-source" href="([^"]+)"', f.read_text(encoding='utf-8')):
            u = urlparse(unquote(href)); n += 1
            m = re.fullmatch(r'/[\w-]+/[\w-]+/blob/[\w-]+/(.+)', u.path)
            if not m or not (REPO/m[1]).is_file(): bad.append(f'{f.name}: {href} leads to no file of this repository'); continue
            line = int(re.sub(r'\D', '', u.fragment or '0') or 0)
            if not 1<=line<=len((REPO/m[1]).read_text(encoding='utf-8').splitlines()): bad.append(f'{f.name}: {href}: {m[1]} has no such line')
    if not n: bad.append('no page links to its source')
    return n

def menu(d, site, bad):
    "On a phone the contents open by their button"
    d.get(f'{site}/index.html')
    side = d.find_element(By.CSS_SELECTOR, '.sidebar-drawer')
    if side.rect['x']+side.rect['width']>1: bad.append('on a phone the contents cover the page')
    d.find_element(By.CSS_SELECTOR, '.mobile-header label[for="__navigation"]').click()
    wait(d, 'the contents', lambda: side.rect['x']>=0)

def main():
    ap = argparse.ArgumentParser(); ap.add_argument('html', type=Path); ap.add_argument('--shots', type=Path); a = ap.parse_args()
    began,bad,html = time.monotonic(),[],a.html.resolve()
    os.environ |= dict(SE_OFFLINE='true', SE_AVOID_STATS='true', NO_PROXY='127.0.0.1,localhost', no_proxy='127.0.0.1,localhost')
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=str(html)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    site = f'http://127.0.0.1:{server.server_port}'
    pages = sorted(str(p.relative_to(html)) for p in html.rglob('*.html') if p.name not in ('genindex.html','search.html') and '_static' not in p.parts)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        for name,size in dict(desk=DESK, phone=PHONE).items():
            d = browser(f'{home}/{name}', size)
            try:
                figures = all_pages(d, site, pages, bad, name=='phone')
                print(f'{name}: {len(pages)} pages, {figures} figures', flush=True)
                if name=='desk':
                    print('contents: %d links, %d pages by clicking next' % contents(d, site, bad), flush=True)
                    for word,page in (('noise_floor','compare'), ('duplicates','dups'), ('verify','verify')): print(f'search: {word}: {search(d, site, word, page)} results', flush=True)
                    print(f'links to source: {sources(html, bad)}', flush=True)
                else: menu(d, site, bad)
                if a.shots:
                    a.shots.mkdir(parents=True, exist_ok=True)
                    if name=='phone': d.save_screenshot(str(a.shots/'phone_menu.png'))
                    for p in ('index.html', 'compare.html', 'browse.html', 'tutorials/debug_your_learner.html', 'coverage.html'):
                        if (html/p).exists(): d.get(f'{site}/{p}'); time.sleep(.3); d.save_screenshot(str(a.shots/f"{name}_{p.replace('/', '_')[:-5]}.png"))
            finally: d.quit()
    server.shutdown()
    print(*bad, sep='\n')
    if bad: raise SystemExit(f'{len(bad)} faults of the site')
    print(f'the site works ({time.monotonic()-began:.0f} s)')

if __name__=='__main__': main()
