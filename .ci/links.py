"Every link within the built site leads to a page, and to a place on it: `links.py docs/_build/html`"
import re, sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    "The ids and the links of a page"
    def __init__(self, text): super().__init__(); self.ids,self.links = set(),set(); self.feed(text)
    def handle_starttag(self, tag, attrs):
        d = dict(attrs)
        self.ids |= {d[k] for k in ('id','name') if d.get(k)}
        self.links |= {d[k] for k in ('href','src') if d.get(k)}


def broken(root):
    pages = {p.resolve(): Page(p.read_text(encoding='utf-8')) for p in root.rglob('*.html')}
    for path,page in pages.items():
        for link in page.links:
            u = urlsplit(link)
            if u.scheme or u.netloc: continue
            at = (path.parent/unquote(u.path)).resolve() if u.path else path
            if not at.exists() or (u.fragment and at in pages and unquote(u.fragment) not in pages[at].ids): yield f'{path.name}: {link}'
    for f in root.rglob('*.md'):
        for link in re.findall(r'\]\((\w+\.html\.md)', f.read_text(encoding='utf-8')):
            if not (f.parent/link).exists(): yield f'{f.name}: {link}'


if __name__=='__main__':
    bad = sorted(broken(Path(sys.argv[1])))
    print('\n'.join(bad) or 'no broken link'); sys.exit(bool(bad))
