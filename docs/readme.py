"README.md from the processed index notebook, without Quarto: `python docs/readme.py`"
import re
import nbformat, yaml
from nbconvert import MarkdownExporter
from nbdev.config import get_config
from nbdev.readme_filter import doc_link
from nbdev.serve import proc_nbs

def main():
    cfg = get_config()
    nb = nbformat.v4.reads((proc_nbs(file_glob=cfg.readme_nb)/cfg.readme_nb).read_text())
    nb.metadata['language_info'] = dict(name='python')   # nbdev-clean drops it, nbconvert's fences need it
    if nb.cells[0].cell_type=='raw':
        fm = yaml.safe_load(nb.cells.pop(0).source.strip().strip('-'))
        nb.cells.insert(0, nbformat.v4.new_markdown_cell(f"# {fm['title']}\n\n{fm.get('description', '')}"))
    for c in nb.cells:
        if c.cell_type!='code': continue
        opts = dict(re.findall(r'^#\|\s*([\w-]+):\s*(\S+)', c.source, re.M))
        c.source = re.sub(r'^#\|.*\n?', '', c.source, flags=re.M)
        if 'false' in (opts.get('output'), opts.get('include')): c.outputs = []
        if 'false' in (opts.get('echo'), opts.get('include')): c.metadata['transient'] = dict(remove_source=True)
    ex = MarkdownExporter()
    ex.exclude_input_prompt = ex.exclude_output_prompt = True
    text,res = ex.from_notebook_node(nb, resources=dict(output_files_dir='index_files'))
    text = text.replace('](images/', '](nbs/images/')
    text = re.sub(r'(?<=\])\((?!http|#|nbs/)([^)\s]+)\)', lambda m: f'({doc_link(m[1], cfg.doc_url)})', text)
    for k,v in res['outputs'].items(): (p := cfg.config_path/k).parent.mkdir(exist_ok=True); p.write_bytes(v)
    text = re.sub(r'<style scoped>.*?</style>\n?', '', text, flags=re.S)   # pandas's own, which no host of README files keeps
    text = re.sub(r'\n{3,}', '\n\n', re.sub(r'[ \t]+$', '', text, flags=re.M)).strip()+'\n'
    (cfg.config_path/'README.md').write_text(text, encoding='utf-8')

if __name__=='__main__': main()
