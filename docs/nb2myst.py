"nbdev's processed notebooks -> MyST-NB sources in docs/_src. `proc_nbs` spawns processes, so the __main__ guard stays."
import re, shutil
import nbformat, yaml
from nbdev.config import get_config
from nbdev.serve import proc_nbs

TAGS = {('echo','false'): 'remove-input', ('output','false'): 'remove-output', ('include','false'): 'remove-cell',
        ('code-fold','true'): 'hide-input', ('code-fold','show'): 'hide-input'}

CAPTIONS = [('tutorials', 'Begin here'), ('lab', 'Beside your data'), ('0', 'Ground'), ('1', 'Look at the data'), ('2', 'Skeleton and gates'), ('5', 'Tricks'), ('6', 'Overfit, regularize, repeat'), ('7|8', 'Say it, ship it'), ('', 'All of it')]

FIRST = ('start','own_data','debug_your_learner','competition','measured','coverage')   # the order of those that have no number

def place(f):
    "Where a page comes within its group"
    return FIRST.index(f.stem) if f.stem in FIRST else len(FIRST),str(f)

def caption(f):
    "Where a notebook stands in the contents"
    return next(c for k,c in CAPTIONS if re.match(k, str(f)))

def slug(t):
    "Ids as Pandoc makes them, which is what nbdev's links expect"
    return re.sub(r"[^\w\s.-]", "", t.lower()).strip().replace(" ", "-")

def md(s, urls):
    "Quarto's callouts as MyST admonitions, source links beside their heading, links between notebooks relative"
    s = re.sub(r'^#\|.*\n', '', s, flags=re.M).replace('->__main__.', '->').replace(':__main__.', ':')
    s = re.sub(r'^:::+\s*\{\.callout-(\w+)[^}]*\}', r':::{\1}', s, flags=re.M)
    s = re.sub(r'^---\n+\[source\]\((\S+)\)\{[^}]*\}\n+(#+ .*)$', r'\2\n\n<a class="nbdev-source" href="\1">source</a>', s, flags=re.M)
    for a,b in urls: s = s.replace(f']({a}', f']({b}')
    return s

def cell(c, urls):
    "One cell, with directives turned into tags and `show_doc` into text with real headings (for contents, search and link checks)"
    if c.cell_type=='markdown': c.source = md(c.source, urls)
    if c.cell_type!='code': return c
    for o in c.outputs:
        if 'text/markdown' in o.get('data', {}): o.data['text/markdown'] = md(o.data['text/markdown'], urls)
    if re.search(r'^show_doc\(', c.source, re.M):
        return nbformat.v4.new_markdown_cell('\n\n'.join(o.data['text/markdown'] for o in c.outputs if 'text/markdown' in o.get('data', {})))
    opts = dict(re.findall(r'^#\|\s*([\w-]+):\s*"?(.*?)"?\s*$', c.source, re.M))
    src = re.sub(r'^#\|.*\n?', '', c.source, flags=re.M)
    res = nbformat.v4.new_code_cell(src, outputs=c.outputs, metadata=dict(tags=[t for (k,v),t in TAGS.items() if opts.get(k)==v]))
    if 'fig-cap' in opts: res.metadata.mystnb = dict(figure=dict(caption=opts['fig-cap'], name=opts.get('label', c.id)))
    return res

def plain(nb):
    "A page as Markdown alone, for machines that read: this is what llms.txt and the modules' docstrings point to"
    def shown(o):
        d = o.get('data', {})
        return ''.join(d['text/markdown'] if 'text/markdown' in d else f"```\n{d.get('text/plain') or o.get('text', '')}\n```" if 'image/png' not in d else '')
    def linked(t): return re.sub(r'\]\((\w+)\.ipynb', r'](\1.html.md', t)
    def block(c): return linked(c.source) if c.cell_type=='markdown' else '\n\n'.join([f'```python\n{c.source}\n```', *map(shown, c.outputs)])
    return '\n\n'.join(block(c) for c in nb.cells if 'remove-cell' not in c.metadata.get('tags', []) and c.source)+'\n'

def main():
    cfg = get_config()
    dest,extra_dir = (cfg.config_path/'docs'/o for o in ('_src','_extra'))
    for o in (dest, extra_dir): shutil.rmtree(o, ignore_errors=True)
    proc = proc_nbs(force=True)
    shutil.copytree(proc, dest, ignore=shutil.ignore_patterns('*.ipynb', '*.yml', '.*'))
    nbs = {f.relative_to(proc): nbformat.v4.reads(f.read_text()) for f in sorted(proc.rglob('*.ipynb'))}
    front = {f: yaml.safe_load(nb.cells.pop(0).source.strip().strip('-')) if nb.cells[0].cell_type=='raw' else {} for f,nb in nbs.items()}
    out = {f: f.with_name(front[f].get('output-file', f.name)).with_suffix('.ipynb') for f in nbs}
    extra = [p.relative_to(dest) for p in sorted(dest.rglob('*.md'))]
    pages = {str(o.with_suffix('')): caption(f) for f,o in sorted(out.items(), key=lambda o: place(o[0])) if str(o)!='index.ipynb'} | {str(o.with_suffix('')): CAPTIONS[-1][1] for o in extra}
    tocs = [f'```{{toctree}}\n:hidden:\n:caption: {c}\n\n'+'\n'.join(p for p,at in pages.items() if at==c)+'\n```' for _,c in CAPTIONS if c in pages.values()]
    for f,nb in nbs.items():
        up = '../'*len(f.parent.parts)
        urls = [(f'{cfg.doc_url}{o.with_suffix(".html")}', f'{up}{o}') for o in out.values()] + [(f'{up}{g}', f'{up}{o}') for g,o in out.items()]
        nb.metadata['language_info'] = dict(name='python', pygments_lexer='ipython3')   # nbdev-clean drops it; without it every cell warns
        head = f"# {front[f].get('title', f.stem)}\n\n{front[f].get('description', '')}"
        nb.cells = [nbformat.v4.new_markdown_cell(head)] + [cell(c, urls) for c in nb.cells if 'AUTOGENERATED' not in c.source]
        (page := extra_dir/out[f].with_suffix('.html.md')).parent.mkdir(parents=True, exist_ok=True)
        page.write_text(plain(nb), encoding='utf-8')
        if str(out[f])=='index.ipynb': nb.cells.append(nbformat.v4.new_markdown_cell('\n\n'.join(tocs)))
        (d := dest/out[f]).parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(nb, d)
    shutil.copy(cfg.nbs_path/'llms.txt', extra_dir)

if __name__=='__main__': main()
