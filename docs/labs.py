"The notebooks of nbs/lab -> cv_recipe/labs, without outputs: `cv-recipe lab` lays them beside the user's data"
from pathlib import Path
import nbformat

top = Path(__file__).resolve().parents[1]
to = top/'cv_recipe'/'labs'
to.mkdir(exist_ok=True)
names = {f.name for f in (top/'nbs'/'lab').glob('*.ipynb')}
for f in to.glob('*.ipynb'):
    if f.name not in names: f.unlink()
for name in sorted(names):
    nb = nbformat.read(top/'nbs'/'lab'/name, 4)
    for c in nb.cells:
        c.metadata = {}
        if c.cell_type=='code': c.outputs,c.execution_count = [],None
    nb.metadata = dict(kernelspec=dict(display_name='Python 3', language='python', name='python3'), language_info=dict(name='python'))
    (to/name).write_text(nbformat.writes(nb)+'\n', encoding='utf-8')
